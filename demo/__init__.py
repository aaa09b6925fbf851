"""Runs the main example on a real Airflow, against the simulator or the real API (`make demo`)."""

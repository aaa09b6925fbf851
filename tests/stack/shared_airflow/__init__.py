"""Tests that share one Airflow. Each file has a DAG of its own, and a simulator that its connection leads to."""

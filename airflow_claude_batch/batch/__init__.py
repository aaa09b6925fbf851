"""Run Messages API requests as a batch job: send, wait, recover, land. Imports neither Airflow nor httpx."""

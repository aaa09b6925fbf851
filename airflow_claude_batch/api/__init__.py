"""Client of one HTTP API, Claude's Message Batches. It knows no batch jobs and no Airflow."""

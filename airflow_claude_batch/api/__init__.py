"""The ground floor: one HTTP API. Knows no jobs and no Airflow."""

"""The first floor: what it means to run messages as a batch job. Knows no Airflow and no HTTP library."""

"""From an Airflow connection to the configuration of an API client. Does not import Airflow."""

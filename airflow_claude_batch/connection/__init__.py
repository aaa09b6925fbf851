"""Read an Airflow connection into the configuration of an API client. This package does not import Airflow."""

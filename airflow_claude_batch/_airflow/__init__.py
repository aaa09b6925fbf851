"""How tasks use the core: everything that needs Airflow, except the classes that DAG authors import."""

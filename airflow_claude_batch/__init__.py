"""Claude's Message Batches API for Apache Airflow. Imports nothing: Airflow loads this package early."""

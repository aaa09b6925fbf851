"""Find orphans: message batches of the workspace that no submission of this Airflow knows."""

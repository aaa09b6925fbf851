"""A page over the submissions of a results folder: ``python -m airflow_claude_batch.report RESULTS_PATH``."""

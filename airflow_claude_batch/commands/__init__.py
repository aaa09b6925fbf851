"""The commands of ``airflow claude-batch …`` and ``python -m airflow_claude_batch …``, one module each."""

"""Describe the products of a table that changes a little each day, and pay only for the rows that changed.

The answer store keeps what was answered on the days before. A row that is the same as then gets its answer from there:
it costs nothing, and says so in ``reused_from``. The DAG catches up five days, and each prints a line with its cost.

``warehouse`` is an Airflow connection to a database. It may be a file of SQLite:
``AIRFLOW_CONN_WAREHOUSE='{"conn_type": "sqlite", "host": "/tmp/warehouse.db"}'``.
"""

import tempfile
from datetime import UTC, datetime, timedelta

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import DAG, task

from airflow_claude_batch.answers import AnswerStore
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sources import SqlRows

WAREHOUSE = "warehouse"
ANSWERS = f"{tempfile.gettempdir()}/claude_answers"  # yours is where all workers reach it, such as s3://bucket/answers
# Each day another one of 20 products has a new description.
SAVE_PRODUCTS = """INSERT INTO example_products (id, description) VALUES
{% for id in range(1, 21) -%}
({{ id }}, 'A lamp {{ "of %d watts" % (id * 5) if id > logical_date.day else "of 2026, number %d" % id }}')
{{- ", " if not loop.last }}
{% endfor %}"""

with DAG(
    "changing_table",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    end_date=datetime(2026, 1, 5, tzinfo=UTC),
    catchup=True,
    max_active_runs=1,  # one day after the other, so that each finds the answers of the day before
    tags=["claude"],
    default_args={"retries": 2},
):
    save_products = SQLExecuteQueryOperator(  # yours are there already
        task_id="save_products",
        conn_id=WAREHOUSE,
        sql=[
            "CREATE TABLE IF NOT EXISTS example_products (id integer PRIMARY KEY, description varchar(200))",
            "DELETE FROM example_products",
            SAVE_PRODUCTS,
        ],
    )
    describe = SendMessageBatchOperator(
        task_id="describe",
        rows=SqlRows(WAREHOUSE, "SELECT id, description FROM example_products ORDER BY id"),
        key="id",
        prompt="<product>{description}</product>\nWrite one sentence about this product for the shop's page.",
        model="claude-haiku-5-5",
        max_tokens=1024,
        answer_store=AnswerStore(ANSWERS, max_age=timedelta(days=90)),
        wait_for_completion=True,
        deferrable=True,
    )

    @task
    def say_cost(manifest, ds=None):
        """Say how many rows were asked and how many answers were reused."""
        reused = manifest.get("reused", {}).get("requests", 0)
        asked = manifest["request_count"] - reused
        line = f"{ds}: {asked} asked, {reused} reused, {manifest['cost']['usd']} USD"
        print(line)
        return line

    save_products >> describe
    say_cost(describe.output)

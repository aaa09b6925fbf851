"""Explain every configuration option of this Airflow in plain words: a table in, a table out.

The input is the official description of each option of the installed Airflow: several hundred texts, in a table of a
SQL database. One task sends them as one message batch. A deferred sensor waits for it and uses no worker meanwhile. The
last tasks write a table of the explanations, and a page with each text before and after.

It needs a connection ``claude_default`` of type Claude with an API key as its password, and a connection ``warehouse``
to a database, such as ``AIRFLOW_CONN_WAREHOUSE='{"conn_type": "sqlite", "host": "/tmp/warehouse.db"}'``.
"""

from html import escape
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.sources import SqlRows
from airflow_claude_batch.transfers import RowsToSqlOperator

WAREHOUSE = "warehouse"
MODEL = "claude-haiku-5-5"
MAX_TOKENS = 1024
PROMPT = "{name}\n\n{description}"
SYSTEM = (
    "You explain configuration options of Apache Airflow to people who run it for the first time. You are given an "
    "option as section.name, then its official description. Say the same in plain words: three sentences at most, "
    "no list, no preamble. Keep every unit, default value and warning."
)
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Airflow's options in plain words</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; table-layout: fixed; width: 100% }}
th, td {{ border-top: 1px solid #ddd; padding: .5rem .75rem .5rem 0; text-align: left; vertical-align: top }}
th:first-child {{ width: 24% }}
td {{ white-space: pre-line; overflow-wrap: break-word }}
td:first-child {{ font-family: monospace }}
</style>
<h1>Airflow's options in plain words</h1>
<p>{count} options, explained by {model} in message batch {batches}.</p>
<table><tr><th>option</th><th>before</th><th>after</th></tr>
{rows}
</table></html>
"""


def read_options() -> list[tuple[str, str]]:
    """Return the name and the description of each option that has a description."""
    # Imported here, so that only the worker loads Airflow's configuration.
    from airflow.configuration import conf

    return [
        (f"{section}.{name}", option["description"].strip())
        for section, contents in conf.configuration_description.items()
        for name, option in contents["options"].items()
        if option.get("description")
    ]


@task
def save_options() -> int:
    """Write the options to the table ``airflow_options``. Your texts are in a table already."""
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    hook, options = DbApiHook.get_hook(WAREHOUSE), read_options()
    hook.run(["DROP TABLE IF EXISTS airflow_options", "CREATE TABLE airflow_options (name text, description text)"])
    hook.insert_rows("airflow_options", options, target_fields=["name", "description"])
    return len(options)


@task
def write_report(manifest: dict[str, Any]) -> str:
    """Write the page to the folder of the results, which may be an object store, and return its path."""
    cells = ((row.key, row.input["description"], row.text or "") for row in read_rows(manifest))
    page = PAGE.format(
        count=manifest["request_count"],
        model=MODEL,
        batches=", ".join(manifest["batch_ids"]),
        rows="\n".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in cells),
    )
    report = ObjectStoragePath(manifest["results_path"]).parent / "report.html"
    report.write_text(page, encoding="utf-8")
    return str(report)


with DAG("describe_options", schedule="@monthly", tags=["claude"], default_args={"retries": 2}):
    send = SendMessageBatchOperator(
        task_id="send",
        rows=SqlRows(WAREHOUSE, "SELECT name, description FROM airflow_options ORDER BY name"),
        key="name",
        prompt=PROMPT,
        keep=["description"],
        model=MODEL,
        max_tokens=MAX_TOKENS,
        system=SYSTEM,
    )
    wait = MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
    RowsToSqlOperator(
        task_id="load",
        rows=wait.output,
        conn_id=WAREHOUSE,
        table="airflow_options_explained",
        columns={"name": "key", "explanation": "text", "usd": "cost_usd", "why_not": "error.message"},
        create_table=True,
    )
    save_options() >> send
    write_report(wait.output)

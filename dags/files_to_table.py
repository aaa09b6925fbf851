"""Read a folder of invoices into a table of a SQL database: a row for each file, whether PDF, scan or photo.

``files=`` puts each file into its request, from any storage that Airflow reaches. What it is follows from its bytes.
The folder stands in the template, so that a row can only choose a file in it.
"""

import tempfile
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.transfers import RowsToSqlOperator

FOLDER = f"file://{tempfile.gettempdir()}/claude_batch_invoices"  # yours may be s3://my_conn@bucket/invoices

INVOICE = {
    "type": "object",
    "properties": {
        "seller": {"type": "string"},
        "due": {"type": "string", "format": "date"},
        "total": {"type": "number", "description": "What is to be paid, with taxes."},
        "currency": {"type": "string", "description": "Its ISO 4217 code."},
    },
    "required": ["seller", "due", "total", "currency"],
    "additionalProperties": False,
}

PAGE = """%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 420 595] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>> endobj
4 0 obj <</Length {length}>> stream
{text}
endstream endobj
5 0 obj <</Type /Font /Subtype /Type1 /BaseFont /Helvetica>> endobj
trailer <</Root 1 0 R>>
"""


@task
def save_invoices() -> None:
    """Save some invoices. Yours are there already."""
    folder = ObjectStoragePath(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for number, total in (("2041", "119.00"), ("2042", "59.50"), ("2043", "1,190.00")):
        text = f"BT /F 14 Tf 40 500 Td (Invoice {number} of Rain Ltd, due 2026-12-24: EUR {total}) Tj ET"
        (folder / f"{number}.pdf").write_text(PAGE.format(length=len(text), text=text))


@task
def list_invoices() -> list[dict[str, Any]]:
    """List the files of the folder. A row may have more columns, and may come from a query as well."""
    return [{"name": path.name} for path in sorted(ObjectStoragePath(FOLDER).iterdir(), key=str)]


with DAG("files_to_table", schedule="@daily", tags=["claude"], default_args={"retries": 2}):
    invoices = list_invoices()
    save_invoices() >> invoices
    read = SendMessageBatchOperator(
        task_id="read",
        rows=invoices,
        key="name",
        files=[f"{FOLDER}/{{name}}"],
        prompt="Read this invoice.",
        model="claude-haiku-5-5",
        max_tokens=1024,
        output_schema=INVOICE,
        max_cost=1,
        wait_for_completion=True,
        deferrable=True,
    )
    RowsToSqlOperator(
        task_id="load",
        rows=read.output,
        conn_id="warehouse",
        table="example_invoices",
        columns={
            "file": "key",
            "seller": "output.seller",
            "due": "output.due",
            "total": "output.total",
            "currency": "output.currency",
            "why_not": "error.message",
        },
        create_table=True,
    )

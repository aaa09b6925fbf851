"""Judge every row of a table, and join the judgements to the table as columns.

``@task.claude_batch`` sends the messages that its function yields, and returns the manifest. The pydantic model is
the schema of every answer, and ``read_rows`` returns its instances. The workers need polars. Pandas works as well.
"""

from collections.abc import Iterator
from typing import Any, Literal

from airflow.sdk import DAG, task
from pydantic import BaseModel, Field

from airflow_claude_batch.rows import read_rows


class Review(BaseModel):
    """The judgement of one review."""

    sentiment: Literal["good", "mixed", "bad"]
    stars: Literal[1, 2, 3, 4, 5] = Field(description="How many stars the author would give.")
    complaint: str | None = Field(description="What the author complains about, in three words.")


@task
def read_reviews() -> str:
    """Read the table. Yours may come from a warehouse. Pass a large one on as the path of a file."""
    import polars as pl

    reviews = pl.DataFrame(
        {
            "id": ["r1", "r2", "r3"],
            "text": [
                "Arrived a day early, and it just works.",
                "Good sound, but the battery is gone after two hours.",
                "Broke on the second day. Never again.",
            ],
        }
    )
    return reviews.write_ndjson()


@task.claude_batch(
    model="claude-haiku-5-5",
    max_tokens=1024,
    system="Judge a customer's review of a product.",
    output_schema=Review,
    wait_for_completion=True,
    deferrable=True,
)
def judge(reviews: str) -> Iterator[dict[str, Any]]:
    """Yield one message per row. Its key is the row's id."""
    import polars as pl

    for review in pl.read_ndjson(reviews.encode()).iter_rows(named=True):
        yield {"key": review["id"], "prompt": review["text"]}


@task
def join(reviews: str, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Join the judgements to the table. A left join keeps reviews whose request failed."""
    import polars as pl

    judgements = pl.DataFrame(
        [{"id": row.key, **row.output.model_dump()} for row in read_rows(manifest, schema=Review) if row.output],
        schema={"id": pl.String, "sentiment": pl.String, "stars": pl.Int64, "complaint": pl.String},
    )
    return pl.read_ndjson(reviews.encode()).join(judgements, on="id", how="left").sort("stars").to_dicts()


with DAG("data_frame", schedule="@daily", tags=["claude"], default_args={"retries": 2}):
    reviews = read_reviews()
    join(reviews, judge(reviews))

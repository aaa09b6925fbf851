"""A table in, a table out: a function yields a message per row, and the answers become columns beside them.

``@task.claude_batch`` sends what the function yields and gives the manifest. The pydantic model is what every answer
must be, and what ``read_rows`` makes of it. The workers need polars; pandas does as well, with its own names.
"""

from collections.abc import Iterator
from typing import Any, Literal

from airflow.sdk import DAG, task
from pydantic import BaseModel, Field

from airflow_claude_batch.rows import read_rows


class Review(BaseModel):
    """What is asked of each review."""

    sentiment: Literal["good", "mixed", "bad"]
    stars: Literal[1, 2, 3, 4, 5] = Field(description="How many stars the author would give.")
    complaint: str | None = Field(description="What the author complains about, in three words.")


@task
def read_reviews() -> str:
    """In the place of a table in your warehouse; a large one belongs into a file, whose path goes on."""
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
    """One message a row; its key is the row's id."""
    import polars as pl

    for review in pl.read_ndjson(reviews.encode()).iter_rows(named=True):
        yield {"key": review["id"], "prompt": review["text"]}


@task
def join(reviews: str, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The table with the judgements as columns; the rows come one by one, in the order of the messages."""
    import polars as pl

    judgements = pl.DataFrame(
        [{"id": row.key, **row.output.model_dump()} for row in read_rows(manifest, schema=Review) if row.output],
        schema={"id": pl.String, "sentiment": pl.String, "stars": pl.Int64, "complaint": pl.String},
    )
    return pl.read_ndjson(reviews.encode()).join(judgements, on="id", how="left").sort("stars").to_dicts()


with DAG("data_frame", schedule="@daily", tags=["claude"], default_args={"retries": 2}):
    reviews = read_reviews()
    join(reviews, judge(reviews))

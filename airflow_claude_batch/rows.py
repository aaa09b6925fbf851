"""Reading landed rows, from any storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch._airflow.results_folder import folder_of_file
from airflow_claude_batch.batch.land.parquet import read_parquet
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.rows import Row


def read_rows(source: Mapping[str, Any] | str, *, schema: Any = None) -> Iterator[Row]:
    """Give the rows of a manifest, or of a results file by path or URI, one by one in input order.

    A manifest's own ``responses`` are read where it has them, so that small results need no shared storage.

    :param schema: a pydantic model, or another type that pydantic's ``TypeAdapter`` takes: each ``output`` is given as
        an instance of it. Its own validators run now; only its JSON Schema was enforced when the rows were landed.
    :raises ResultsError: the file is not there, or a line of it is damaged, or an output is no instance.
    """
    rows = _rows(source)
    return rows if schema is None else _with_instances(rows, schema)


def _rows(source: Mapping[str, Any] | str) -> Iterator[Row]:
    if not isinstance(source, str) and source.get("responses") is not None:
        yield from _inline(source["responses"])
        return
    path = source if isinstance(source, str) else source.get("results_path")
    if not path:
        raise ResultsError("The manifest names no results_path: nothing is landed yet.")
    folder, name = folder_of_file(str(path))
    file = folder.open(name)
    if file is None:
        raise ResultsError(
            f"{path} is not there: nothing is landed yet, or it was moved, or this worker has other storage."
        )
    if name.endswith(".parquet"):
        with file:
            yield from read_parquet(file, path=str(path))
        return
    decoder = msgspec.json.Decoder(Row)
    with file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise ResultsError(
                    f"Line {number} of {path} is damaged ({type(error).__name__}). Restore the file, or remove it and "
                    "clear the task that landed it: it fetches the answers again, which the API keeps for 29 days."
                ) from None


def _inline(responses: Iterable[Any]) -> Iterator[Row]:
    for number, response in enumerate(responses):
        try:
            yield msgspec.convert(response, Row)
        except msgspec.ValidationError:
            raise ResultsError(f"responses[{number}] of the manifest is no row.") from None


def _with_instances(rows: Iterator[Row], schema: Any) -> Iterator[Row]:
    from pydantic import TypeAdapter, ValidationError

    adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
    for row in rows:
        if row.output is None:
            yield row
            continue
        try:
            # As JSON: what is no JSON, such as a date or a tuple, is then read from how JSON writes it.
            output = adapter.validate_json(msgspec.json.encode(row.output))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(map(str, found["loc"])) or "it"
            raise ResultsError(
                f"Row {row.index} (key {row.key!r:.80}): its output is not what schema wants: {place}: {found['type']}."
            ) from None
        yield msgspec.structs.replace(row, output=output)

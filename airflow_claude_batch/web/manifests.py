"""Find and read the manifests below a folder. One that is not as it was written becomes a problem, never an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import msgspec

from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Count, Manifest
from airflow_claude_batch.web.results_tree import ResultsTree

#: An object store answers many reads at a time. A disk in memory gains nothing, and loses little.
READERS: Final = 16
#: How many manifests a thread reads before it takes others.
_CHUNK: Final = 64

_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
#: Decimal digits, as ``exact_usd`` writes them.
_Usd = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,40})?\Z")]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something below the folder that the report leaves out.

    :param name: the place, relative to the folder of the report.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest that was read.

    :param name: its folder, relative to the folder of the report. "" for that folder itself.
    """

    name: str
    manifest: Manifest


class _Usage(msgspec.Struct):
    input_tokens: _Tokens = 0
    cache_creation_input_tokens: _Tokens = 0
    cache_read_input_tokens: _Tokens = 0
    output_tokens: _Tokens = 0


class _ModelPart(msgspec.Struct):
    counts: dict[str, Count]
    usage: _Usage
    usd: _Usd | None


class _Cost(msgspec.Struct):
    estimated_usd: _Usd | None = None
    without_batch_usd: _Usd | None = None
    without_cache_usd: _Usd | None = None
    unpriced_models: list[str] | None = None
    unknown_answers: Count = 0


class _Reused(msgspec.Struct):
    requests: Count
    first_usd: _Usd | None = None


class _Direct(msgspec.Struct):
    answers: Count
    usd: _Usd | None = None


class _Summed(msgspec.Struct):
    """What the report adds up. In a manifest these fields have looser types: later versions may write more."""

    counts: dict[str, Count]
    cost: _Cost | None = None
    by_model: dict[str, _ModelPart] = {}
    reused: _Reused | None = None
    direct: _Direct | None = None


_summed: Final = msgspec.json.Decoder(_Summed)
_manifest: Final = msgspec.json.Decoder(Manifest)


def find_manifests(tree: ResultsTree) -> Iterator[FoundManifest | Problem]:
    """Yield each manifest below a folder, or why it cannot be read, in the order of their paths.

    :raises OSError: the folder cannot be listed.
    """
    folders, problems = tree.find()
    chunks = [folders[start : start + _CHUNK] for start in range(0, len(folders), _CHUNK)]
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(partial(_read_all, tree), chunks):
            yield from found
    for problem in problems:
        yield Problem(str(problem.filename) or tree.name, f"This folder cannot be listed: {in_words(problem)}")


def in_words(error: Exception) -> str:
    """Return what an error says, in one sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return f"{reason.splitlines()[0].rstrip('.')}."


def _read_all(tree: ResultsTree, folders: Sequence[str]) -> list[FoundManifest | Problem]:
    return [_read(tree, folder) for folder in folders]


def _read(tree: ResultsTree, folder: str) -> FoundManifest | Problem:
    try:
        return FoundManifest(folder, _decode(tree.read_manifest(folder)))
    except (msgspec.MsgspecError, ValueError, OSError, RecursionError) as error:
        return Problem(folder or tree.name, f"Its {MANIFEST_FILE} cannot be read: {in_words(error)}")


def _decode(data: bytes) -> Manifest:
    _summed.decode(data)
    return _manifest.decode(data)

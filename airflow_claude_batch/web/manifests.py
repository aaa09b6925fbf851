"""Find and read the manifests below a folder. One that is not as it was written becomes a problem, never an error."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Count, Manifest

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import ObjectStoragePath

#: Many times the largest manifest: it has some numbers for each model and an id for each message batch.
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024

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

    :param name: its folder, relative to the folder of the report.
    :param folder: its folder, as a path or URI.
    """

    name: str
    folder: str
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


class _Summed(msgspec.Struct):
    """What the report adds up. In a manifest these fields have looser types: later versions may write more."""

    counts: dict[str, Count]
    cost: _Cost | None = None
    by_model: dict[str, _ModelPart] = {}


def find_manifests(root: str) -> Iterator[FoundManifest | Problem]:
    """Yield each manifest below a folder, or why it cannot be read, in the order of their paths.

    :raises ConfigurationError: no installed provider serves the URI.
    :raises OSError: the folder cannot be listed.
    """
    path = object_path(root)
    base = path.path.rstrip("/")
    problems: list[OSError] = []
    for file_path in _list_manifests(path, base, problems):
        folder = _below(file_path.rpartition("/")[0], base)
        name = folder or base.rpartition("/")[2]
        try:
            manifest = _decode(_read(path, file_path))
        except (ValueError, OSError, RecursionError) as error:
            yield Problem(name, f"Its {MANIFEST_FILE} cannot be read: {in_words(error)}")
            continue
        yield FoundManifest(name, f"{root.rstrip('/')}/{folder}" if folder else root, manifest)
    for problem in problems:
        yield Problem(_below(str(problem.filename), base), f"This folder cannot be listed: {in_words(problem)}")


def check_is_file(uri: str) -> None:
    """Raise if a path on a disk does not lead to a file. To read from a pipe or a device might never end.

    :raises OSError: it leads nowhere.
    :raises ValueError: it leads to something else.
    """
    path = object_path(uri)
    if _is_local(path):
        _check_is_file(path.path)


def in_words(error: Exception) -> str:
    """Return what an error says, in one sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return f"{reason.splitlines()[0].rstrip('.')}."


def _is_local(path: ObjectStoragePath) -> bool:
    return path.protocol in ("file", "local", "")


def _check_is_file(path: str) -> None:
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError("it is not a file")


def _list_manifests(path: ObjectStoragePath, base: str, problems: list[OSError]) -> list[str]:
    options: dict[str, Any] = {"withdirs": True, "on_error": problems.append} if _is_local(path) else {}
    return sorted(found for found in path.fs.find(base, **options) if found.rpartition("/")[2] == MANIFEST_FILE)


def _read(path: ObjectStoragePath, file_path: str) -> bytes:
    if _is_local(path):
        _check_is_file(file_path)
    with path.fs.open(file_path, "rb") as file:
        data: bytes = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
    return data


def _decode(data: bytes) -> Manifest:
    msgspec.json.decode(data, type=_Summed)
    return msgspec.json.decode(data, type=Manifest)


def _below(folder: str, base: str) -> str:
    """Return a folder's name below the base. Some file systems list paths without the leading slash."""
    return folder.removeprefix(base.lstrip("/")).removeprefix(base).strip("/")

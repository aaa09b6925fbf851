"""Find and read the manifests below a folder. One that is not as it was written becomes a problem, never an error."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from airflow_claude_batch._airflow.results_folder import folder_at, object_path
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

    :param root: a folder, or a manifest itself.
    :raises ConfigurationError: no installed provider serves the URI.
    :raises OSError: the folder cannot be listed.
    """
    parent, _, last = root.rpartition("/")
    if last == MANIFEST_FILE:
        root = parent or "."
    path = object_path(root)
    base = path.path.rstrip("/")
    root = str(Path(path.path).absolute()) if _is_local(path) else root.rstrip("/")
    problems: list[OSError] = []
    for file_path in _list_manifests(path, base, problems):
        folder = _below(file_path.rpartition("/")[0], base)
        name, uri = folder or base.rpartition("/")[2], f"{root}/{folder}".rstrip("/")
        try:
            yield FoundManifest(name, uri, _decode(_read(uri)))
        except (msgspec.MsgspecError, ValueError, OSError, RecursionError) as error:
            yield Problem(name, f"Its {MANIFEST_FILE} cannot be read: {in_words(error)}")
    for problem in problems:
        yield Problem(_below(str(problem.filename), base), f"This folder cannot be listed: {in_words(problem)}")


def check_is_file(uri: str) -> None:
    """Raise if a path on a disk does not lead to a file. To read from a pipe or a device might never end.

    :raises OSError: it leads nowhere.
    :raises ValueError: it leads to something else.
    """
    path = object_path(uri)
    if _is_local(path) and not stat.S_ISREG(Path(path.path).stat().st_mode):
        raise ValueError("it is not a file")


def in_words(error: Exception) -> str:
    """Return what an error says, in one sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return f"{reason.splitlines()[0].rstrip('.')}."


def _is_local(path: ObjectStoragePath) -> bool:
    return path.protocol in ("file", "local", "")


def _list_manifests(path: ObjectStoragePath, base: str, problems: list[OSError]) -> list[str]:
    """List whatever is named like a manifest. Links to other folders are not followed."""
    if _is_local(path) and Path(base).is_dir():
        walk = os.walk(base, onerror=problems.append)  # fsspec's find would leave such errors out
        found = [f"{folder}/{MANIFEST_FILE}" for folder, *names in walk if any(MANIFEST_FILE in each for each in names)]
    else:
        found = [file for file in path.fs.find(base) if file.rpartition("/")[2] == MANIFEST_FILE]
    return sorted(found)


def _read(folder: str) -> bytes:
    check_is_file(f"{folder}/{MANIFEST_FILE}")
    file = folder_at(folder).open(MANIFEST_FILE)
    if file is None:
        raise ValueError("it is not there any more")
    with file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
    return data


def _decode(data: bytes) -> Manifest:
    msgspec.json.decode(data, type=_Summed)
    return msgspec.json.decode(data, type=Manifest)


def _below(folder: str, base: str) -> str:
    """Return a folder's name below the base. Some file systems list paths without the leading slash."""
    return folder.removeprefix(base.lstrip("/")).removeprefix(base).strip("/")

"""Finds lists of texts that are no prompts: paths of files, and elements that are still JSON.

One such text alone proves nothing: users may type anything into a form. A list in which every text is one was meant
otherwise. ``{"prompt": "/data/a.txt"}`` is always taken as it is.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Final, Literal

from airflow_claude_batch.exceptions import InvalidMessageError

READ_THE_FILES: Final = (
    "Map over paths of .jsonl files: SendMessageBatchOperator.partial(…).expand(messages=paths).\nOf other files, give "
    'the text: {"key": path, "prompt": Path(path).read_text()}.'
)
_AS_PROMPTS: Final = 'If they are the prompts: [{"prompt": text} for text in texts].'
_LONGEST_PATH: Final = 1024
_STORES: Final = re.compile(
    r"(s3[an]?|gcs?|gs|abfss?|az|azure|adl|wasbs?|file|hdfs|webhdfs|dbfs|oss|cos|oci|r2|b2|swift|s?ftp|smb)://\S", re.I
)
_ON_A_DISK: Final = re.compile(r"(?:/|~/|\.{1,2}/|[A-Za-z]:[\\/])[^/\s]")
_ELEMENTS_FILE: Final = re.compile(r"[\w./=+-]+\.(?:jsonl|ndjson)(?:\.gz)?", re.I)
_FILE_NAME: Final = re.compile(
    r".*\.(?:jsonl?|ndjson|csv|tsv|parquet|avro|orc|arrow|feather|txt|text|md|rst|log|xml|html?|ya?ml|eml|msg|pdf|docx?|xlsx?"
    r"|pptx?|rtf|odt|png|jpe?g|gif|webp|tiff?|bmp|mp3|mp4|wav|zip|gz|bz2|xz|zst|tar|pkl|py|sql)",
    re.I,
)


class TextCheck:
    """Looks at elements one by one, and raises at the end if every one of them was a path, or still JSON."""

    def __init__(self) -> None:
        self._kind: Literal["path", "json"] | None = None
        self._count = 0
        self._is_open = True

    def see(self, element: Any) -> None:
        """Look at the next element."""
        if self._is_open:
            kind = kind_of_text(element)
            self._is_open = kind is not None and kind == (self._kind or kind)
            self._kind = kind
            self._count += 1

    def check(self) -> None:
        """Raise if no element was a prompt.

        :raises InvalidMessageError: all were of one other kind.
        """
        if not self._is_open or self._kind is None:
            return
        each = "messages[0]" if self._count == 1 else f"Each of the {self._count:,} elements, from messages[0] on,"
        if self._kind == "path":
            raise InvalidMessageError(
                f"{each} is the path of a file. The path would be sent as the prompt, and not the file.",
                "Nothing was sent.",
                f"{READ_THE_FILES}\n{_AS_PROMPTS}",
            )
        raise InvalidMessageError(
            f"{each} is a text with the JSON of an element. The JSON would be sent as the prompt.",
            "Nothing was sent.",
            f"Read the JSON first: messages=[json.loads(text) for text in texts].\n{_AS_PROMPTS}",
        )


def kind_of_text(text: Any) -> Literal["path", "json"] | None:
    """Tell if a text that is given as a prompt looks like something else."""
    if not isinstance(text, str):
        return None
    if text.startswith("{"):
        return "json" if _is_element_as_json(text) else None
    is_line = len(text) <= _LONGEST_PATH and text.isprintable()
    return "path" if is_line and _is_path(text.strip()) else None


def _is_path(text: str) -> bool:
    """Return True for what names a file, by its form, or because it is there."""
    has_file_name = _FILE_NAME.fullmatch(text) is not None
    is_word = not any(map(str.isspace, text))
    if _STORES.match(text):
        return is_word or has_file_name
    if _ON_A_DISK.match(text):
        return (is_word and has_file_name) or _exists(text)
    return _ELEMENTS_FILE.fullmatch(text) is not None or (is_word and has_file_name and _exists(text))


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111  # a text that may be no path at all


def _is_element_as_json(text: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    fields = value.keys() if isinstance(value, dict) else ()
    return any(
        needed <= set(fields) for needed in ({"prompt"}, {"messages"}, {"role", "content"}, {"custom_id", "params"})
    )

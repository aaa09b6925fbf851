"""Makes URIs of files from source rows, and refuses those that reach further than their template does.

Others may have written the rows, so a value must not decide freely what the worker reads. It may choose a file. It may
choose a bucket only where the author wrote a column in place of the bucket. It never chooses a connection of Airflow, a
folder above, or a path on the worker's own disk.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from airflow_claude_batch.batch.input.file_format import SHOWN_CHARACTERS

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCAL_SCHEMES: Final = ("file", "local")
_WEB_SCHEMES: Final = ("http", "https", "ftp", "data")
#: What bucket names, and hosts with a port, are made of. Everything else there means something to a URI.
_BUCKET: Final = re.compile(r"[A-Za-z0-9._:-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: An empty query or fragment. Airflow would read the file without the mark.
_LOST: Final = re.compile(r"[^?#]*\?(#|$)|[^#]*#$")
_SEGMENT_END: Final = re.compile(r"[/\\]")
#: Parts of a URI that may hold a key: a password before the @, a signature after the question mark.
_SECRET: Final = re.compile(r"(?<=://)[^/@]*:[^/@]*@|\?.*", re.DOTALL)
_LONGEST: Final = 4096
_SHORTEST_URI: Final = 14
#: How often a text is decoded from %2E to find what it hides.
_MOST_DECODINGS: Final = 4
_AS_URL: Final = (
    "Copy the files to storage that Airflow reaches. Or let the API read a public URL: give messages= a block with "
    "a source of type 'url'."
)


class RowFileError(Exception):
    """A file of a source row cannot be sent.

    :param problem: what is wrong, such as ``does not exist``.
    :param remedy: what to do, in sentences.
    :param uri: the URI that the problem is about. The problem follows it in a sentence.
    """

    def __init__(self, problem: str, remedy: str, uri: str | None = None) -> None:
        super().__init__(problem, remedy, uri)
        self.problem = problem
        self.remedy = remedy
        self.uri = uri

    def sentence(self, length: int = 0) -> str:
        """Say what is wrong with which file. The URI is cut if the sentence is longer than ``length``."""
        if self.uri is None:
            return f"{self.problem}."
        room = max(length - len(self.problem) - len("'' ."), _SHORTEST_URI)
        return f"{shown_uri(self.uri, room)} {self.problem}."


def check_template(text: str) -> None:
    """Check what an author wrote, whatever its columns hold.

    :raises RowFileError: no file has such a URI.
    """
    text = text.strip()
    scheme = _SCHEME.match(text)
    if not text:
        raise RowFileError("it is empty", 'Write a URI with a column, such as "s3://my_conn@bucket/{name}.pdf".')
    if scheme and scheme[1].lower() in _WEB_SCHEMES:
        raise RowFileError("nothing is fetched from the web", _AS_URL)
    if not scheme and not text.startswith(("/", "~/", "{")):
        raise RowFileError(
            "it is neither a URI nor an absolute path",
            'Write a URI such as "s3://my_conn@bucket/{name}.pdf", or a path such as "/data/{name}.pdf".',
        )
    if _climbs(text):
        raise RowFileError("it goes to a folder above, with '..'", "Write the path without '..'.")


def check_uri(uri: str, written: str) -> None:
    """Check a URI that values of a row are in.

    >>> check_uri("s3://other_conn@bucket/a.pdf", written="")
    Traceback (most recent call last):
    RowFileError: …

    :param written: what the author wrote before the first column. The URI begins with it.
    :raises RowFileError: it is no URI of a file, or reaches further than the template does.
    """
    if len(uri) > _LONGEST or _CONTROL.search(uri):
        raise RowFileError("the value is no URI: too long, or with control characters", "Check the column.")
    if (scheme := _SCHEME.match(uri)) is None:
        _check_path(uri, written)
    else:
        _check_scheme(scheme, uri, written)
    if _LOST.match(uri):  # of a path, too
        remedy = "It would read another file. Give the file another name."
        raise RowFileError("has a '?' or '#' that Airflow leaves out", remedy, uri)
    if _climbs(uri):
        raise RowFileError("goes to a folder above, with '..'", "Write the URI without '..' in the column.", uri)
    if uri.endswith(("/", "\\", "/.")):
        raise RowFileError("is a folder", "Give a row for each file in it.", uri)


def _check_path(uri: str, written: str) -> None:
    """Check a path on the worker's own disk. Only an author may choose its folder."""
    if not written.startswith(("/", "~/")):
        raise RowFileError(
            "is no URI of storage",
            "A column must not name a path on the worker's disk. Write s3://bucket/key or the like in it, or write the "
            'folder in the template: files=["/data/{name}"].',
            uri,
        )


def _check_scheme(scheme: re.Match[str], uri: str, written: str) -> None:
    name, is_written = scheme[1].lower(), len(written) >= scheme.end()
    if name in _WEB_SCHEMES:
        raise RowFileError("is on the web, from which nothing is fetched", _AS_URL, uri)
    if name in _LOCAL_SCHEMES and not is_written:
        raise RowFileError(
            "is on the worker's disk, and a column must not name that",
            'Write the folder in the template: files=["file:///data/{name}"].',
            uri,
        )
    if "::" in uri:  # fsspec takes what follows for another file system
        raise RowFileError("has '::', which begins another URI", "Give the file another name.", uri)
    if name not in _LOCAL_SCHEMES:
        _check_bucket(scheme, uri, written)


def _check_bucket(scheme: re.Match[str], uri: str, written: str) -> None:
    # Up to where Airflow's urlsplit ends it: a backslash belongs to it.
    after = uri[scheme.end() :]
    authority = re.split(r"[/?#]", after, maxsplit=1)[0]
    connection, at, bucket = authority.rpartition("@")
    if at and len(written) < scheme.end() + len(connection) + 1:
        raise RowFileError(
            "names a connection, and a column must not",
            f'Write it in the template: files=["{scheme[0]}my_conn@bucket/{{name}}"], with the rest in the column.',
            uri,
        )
    if not _BUCKET.fullmatch(bucket) or not after.startswith("/", len(authority)):
        raise RowFileError("names no bucket", f"Write {scheme[0]}bucket/key.", uri)


def _climbs(text: str) -> bool:
    """Tell whether a segment leads to the folder above, in whatever way it is written."""
    for _ in range(_MOST_DECODINGS):
        text = unquote(text)
    return any(segment.strip() == ".." for segment in _SEGMENT_END.split(text))


def shown_uri(uri: str, length: int = SHOWN_CHARACTERS) -> str:
    """Show the end of a URI in an error, without what may be a key. A text that is no URI may be a prompt.

    >>> shown_uri("s3://bucket/a.pdf")
    "'s3://bucket/a.pdf'"
    """
    if not ("/" in uri or "\\" in uri) or " " in uri.strip() or not uri.isprintable():
        return "the value"
    bare, length = _SECRET.sub("", uri), min(length, SHOWN_CHARACTERS)
    return repr(bare if len(bare) <= length else f"…{bare[1 - length :]}")

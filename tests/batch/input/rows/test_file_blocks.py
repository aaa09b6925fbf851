"""Content blocks of the files that source rows name."""

from __future__ import annotations

import base64
import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from media_files import WEBP, gif, jpeg, pdf, png

from airflow_claude_batch.batch.input.preflight.media import LARGEST_IMAGE
from airflow_claude_batch.batch.input.rows.file_blocks import FileBlocks, check_files
from airflow_claude_batch.batch.input.rows.file_contents import LARGEST_FILE
from airflow_claude_batch.batch.input.rows.values import ValueFormError
from airflow_claude_batch.exceptions import ConfigurationError, InputError, InvalidMessageError, SourceError

MB = 1024 * 1024


@dataclass
class Files:
    """A store in memory: contents by URI, and the URIs that were read."""

    contents: Mapping[str, bytes | Exception] = field(default_factory=dict)
    knows_sizes: bool = True
    read_uris: list[str] = field(default_factory=list)

    def size(self, uri: str) -> int | None:
        data = self._get(uri)
        return len(data) if self.knows_sizes else None

    def read(self, uri: str, most: int) -> bytes:
        self.read_uris.append(uri)
        return self._get(uri)[:most]

    def _get(self, uri: str) -> bytes:
        data = self.contents.get(uri, FileNotFoundError(uri))
        if isinstance(data, Exception):
            raise data
        return data


class Sizes(Files):
    """A store of files that must not be read."""

    def read(self, uri: str, most: int) -> bytes:
        raise AssertionError(f"{uri} is too large to be read")


def blocks_of(data: bytes) -> list[dict[str, Any]]:
    return FileBlocks(["{uri}"], Files({"s3://b/f": data})).bind(["uri"])({"uri": "s3://b/f"})


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidMessageError) as caught:
        blocks_of(data)
    first, money, remedy = str(caught.value).split("\n")
    assert first.startswith("files[0] (uri): 's3://b/f' ")
    assert len(first) <= 78  # the name of the row comes before it
    assert money == "Nothing was sent."
    assert remedy
    return first


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("data", "kind", "media_type"),
    [
        pytest.param(png(), "image", "image/png", id="PNG"),
        pytest.param(jpeg(), "image", "image/jpeg", id="JPEG"),
        pytest.param(gif(), "image", "image/gif", id="GIF"),
        pytest.param(WEBP, "image", "image/webp", id="WebP"),
        pytest.param(pdf(), "document", "application/pdf", id="PDF"),
        pytest.param(b"\xef\xbb\xbf\n" + pdf(), "document", "application/pdf", id="PDF after a mark"),
        pytest.param(pdf(size=3 * MB + 1), "document", "application/pdf", id="large"),
    ],
)
def test_a_file_becomes_a_block_of_its_bytes(data: bytes, kind: str, media_type: str) -> None:
    encoded = base64.b64encode(data).decode()

    assert blocks_of(data) == [{"type": kind, "source": {"type": "base64", "media_type": media_type, "data": encoded}}]


def _zip(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code></Error>', "a store's error message"),
        (_zip("word/document.xml"), "a Word document"),
        (_zip("xl/workbook.xml"), "an Excel file"),
        (_zip("ppt/presentation.xml"), "a PowerPoint file"),
        (_zip("a.txt"), "a zip archive"),
        (gzip.compress(pdf()), "compressed with gzip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "an image in HEIC or AVIF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an image in HEIC or AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"II*\0\x08\0\0\0", "an image in TIFF"),
        (b"BM\x46\0\0\0\0\0\0\0", "an image in BMP"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an image in SVG"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"PAR1" + bytes(30), "a Parquet file"),
        ("Ein Brief, aus Köln: 12 Zeilen.\n".encode() * 100, "is text"),
        (("x" * 1023 + "é").encode(), "is text"),
        (bytes(range(256)), "neither a PDF nor a JPEG"),
        (b"RIFF\x40\0\0\0WAVEfmt ", "neither a PDF nor a JPEG"),
    ],
)
def test_other_files_are_refused_by_what_they_are(data: bytes, what: str) -> None:
    assert what in refusal(data)


# ---------------------------------------------------------------- sizes


def test_a_file_larger_than_any_request_is_refused_before_it_is_read() -> None:
    blocks = FileBlocks(["{uri}"], Sizes({"s3://b/f": bytes(40 * MB)})).bind(["uri"])

    with pytest.raises(InvalidMessageError, match=r"has 41,943,040 bytes, and 25,165,824 are allowed"):
        blocks({"uri": "s3://b/f"})


def test_a_large_file_of_unknown_size_is_not_read_to_its_end() -> None:
    store = Files({"s3://b/f": pdf(size=LARGEST_FILE + 7)}, knows_sizes=False)

    with pytest.raises(InvalidMessageError, match="are allowed"):
        FileBlocks(["{uri}"], store).bind(["uri"])({"uri": "s3://b/f"})


def test_the_largest_image_is_sent_and_a_larger_one_refused() -> None:
    most = LARGEST_IMAGE // 4 * 3
    image = png()

    (block,) = blocks_of(image + bytes(most - len(image)))
    assert len(block["source"]["data"]) == LARGEST_IMAGE
    assert "7,864,320 are allowed" in refusal(image + bytes(most + 1 - len(image)))


def test_a_pdf_of_too_many_pages_is_refused() -> None:
    assert len(blocks_of(pdf(600))) == 1
    assert "has 601 pages, and 600 are allowed" in refusal(pdf(601))


def test_files_that_are_too_much_together_are_refused() -> None:
    store = Files({"s3://b/a": pdf(400, size=13 * MB), "s3://b/b": pdf(300, size=13 * MB), "s3://b/c": pdf(201)})
    blocks = FileBlocks(["{one}", "{two}"], store).bind(["one", "two"])

    with pytest.raises(InvalidMessageError, match=r"^files\[1\] \(two\): the files of the row have more than 33,554"):
        blocks({"one": "s3://b/a", "two": "s3://b/b"})
    with pytest.raises(InvalidMessageError, match="the PDFs of the row have 601 pages, and 600 are allowed"):
        blocks({"one": "s3://b/a", "two": "s3://b/c"})


def test_memory_is_a_file_and_its_block() -> None:
    """A PDF of 20 MB has 27 MB in base64."""
    store = Files({"s3://b/f": pdf(size=20 * MB)})
    blocks = FileBlocks(["{uri}"], store).bind(["uri"])
    tracemalloc.start()
    try:
        blocks({"uri": "s3://b/f"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < (20 + 27 + 20 + 4) * MB  # the store's own slice is a copy, too


# ---------------------------------------------------------------- which files a row has

ROW = {"s3://b/a": png(), "s3://b/b": pdf(), "s3://c@b/a b/7.pdf": pdf()}


def bound(*templates: str, columns: str = "uri other") -> Callable[[Mapping[str, Any]], list[str]]:
    """Return what gives the types of the blocks of a row."""
    blocks = FileBlocks(templates, Files(ROW)).bind(columns.split())
    return lambda row: [block["type"] for block in blocks(row)]


@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan")])
def test_a_row_without_a_uri_has_no_file(nothing: Any) -> None:
    assert bound("{uri}")({"uri": nothing, "other": 1}) == []
    assert bound("s3://b/{uri}", "{other}")({"uri": nothing, "other": "s3://b/b"}) == ["document"]
    assert bound("s3://c@b/{uri}/{other}.pdf")({"uri": "a b", "other": nothing}) == []


def test_templates_give_blocks_in_their_order() -> None:
    row = {"uri": "s3://b/b", "other": "s3://b/a"}

    assert bound("{uri}", "{other}")(row) == ["document", "image"]
    assert bound("{other}", "s3://b/b", "{uri}")(row) == ["image", "document", "document"]


def test_values_of_columns_are_filled_in() -> None:
    assert bound(" s3://c@b/{uri}/{other}.pdf ")({"uri": "a b", "other": 7}) == ["document"]
    assert bound("{uri}")({"uri": " s3://b/a\n", "other": 7}) == ["image"]


@pytest.mark.parametrize("kind", ["list", "tuple", "numpy", "arrow"])
def test_a_column_of_lists_gives_a_block_for_each_uri(kind: str) -> None:
    uris: Any = ["s3://b/b", None, " s3://b/a "]
    if kind == "numpy":
        uris = pytest.importorskip("numpy").array(uris, dtype=object)
    elif kind == "arrow":
        uris = pytest.importorskip("pyarrow").array(uris)
    elif kind == "tuple":
        uris = tuple(uris)

    assert bound("{uri}")({"uri": uris, "other": 1}) == ["document", "image"]
    assert bound("{uri}")({"uri": [], "other": 1}) == []


@pytest.mark.parametrize(
    ("template", "value", "problem"),
    [
        ("s3://b/{uri}", ["a"], r"files\[0\] \(uri\): the column holds a list"),
        ("{uri}", [7], "the list holds a value of type int"),
        ("{uri}", [["s3://b/a"]], "the list holds a value of type list"),
        ("{uri}", ["s3://x@b/a"], "names a connection"),
        ("{uri}", {"a": 1}, "is no URI"),
        ("{uri}", 7, "is no URI"),
        ("{uri}", "/etc/passwd", "no URI"),
        ("{uri}", "s3://b/missing", "does not exist"),
        ("s3://b/{uri}/", "a", "is a folder"),
    ],
)
def test_other_values_are_refused(template: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidMessageError, match=problem) as caught:
        bound(template)({"uri": value, "other": 1})
    assert len(str(caught.value).split("\n")[0]) <= 120


def test_bytes_are_refused_with_their_column() -> None:
    with pytest.raises(ValueFormError) as caught:
        bound("{uri}")({"uri": b"%PDF-1.7", "other": 1})
    assert caught.value.column == "uri"


def test_values_are_not_templates() -> None:
    with pytest.raises(InvalidMessageError, match="does not exist"):
        bound("s3://b/{uri}")({"uri": "{other}", "other": "a"})


def test_a_column_that_is_not_there_is_refused_when_it_is_bound() -> None:
    with pytest.raises(InputError, match=r"files\[1\]: \{url\} is no column of the rows"):
        bound("{uri}", "{url}")


def test_what_jinja_made_of_a_template_is_checked() -> None:
    with pytest.raises(InputError, match=r"files\[0\]: it goes to a folder above"):
        bound("s3://b/../{uri}")


@pytest.mark.parametrize("templates", ["{uri}", [7], [""], {"a": "{uri}"}])
def test_what_another_task_made_of_the_templates_is_checked(templates: Any) -> None:
    with pytest.raises(InputError, match="files"):
        FileBlocks(templates, Files(ROW)).bind(["uri"])


# ---------------------------------------------------------------- errors of the store


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (FileNotFoundError(2, "x"), "does not exist"),
        (NotADirectoryError(20, "x"), "does not exist"),
        (OSError(36, "File name too long"), "does not exist"),
        (PermissionError(13, "x"), "may not be read by this worker"),
        (IsADirectoryError(21, "x"), "is a folder"),
    ],
)
def test_what_a_retry_would_meet_again_is_an_error_of_the_input(error: OSError, problem: str) -> None:
    blocks = FileBlocks(["{uri}"], Files({"s3://b/f": error})).bind(["uri"])

    with pytest.raises(InvalidMessageError, match=problem):
        blocks({"uri": "s3://b/f"})


class TheirError(Exception):
    """An error of a store's library, which is no ``OSError``."""


@pytest.mark.parametrize("error", [ConnectionResetError("x"), TimeoutError("x"), OSError(5, "x"), TheirError("x")])
def test_what_may_pass_is_an_error_that_a_retry_helps(error: Exception) -> None:
    blocks = FileBlocks(["{uri}"], Files({"s3://b/f": error})).bind(["uri"])

    with pytest.raises(SourceError) as caught:
        blocks({"uri": "s3://b/f"})
    kind = type(error).__name__
    assert str(caught.value).startswith(
        f"files[0] (uri): 's3://b/f' could not be read: {kind}.\nNothing was sent.\nA retry"
    )
    assert caught.value.__cause__ is error


# ---------------------------------------------------------------- files of several rows


def test_a_file_that_the_next_row_names_too_is_read_once() -> None:
    store = Files({"s3://b/terms": pdf(), "s3://b/1": png(), "s3://b/2": jpeg()})
    blocks = FileBlocks(["s3://b/terms", "s3://b/{name}"], store).bind(["name"])

    rows = [blocks({"name": name}) for name in ("1", "2", "2", "1")]

    assert store.read_uris == ["s3://b/terms", "s3://b/1", "s3://b/2", "s3://b/1"]
    assert len({id(row[0]) for row in rows}) == 4  # whoever changes a block changes no other
    assert all(row[0] == rows[0][0] for row in rows)


def test_a_file_that_a_row_names_twice_is_read_once() -> None:
    store = Files({"s3://b/1": png()})
    FileBlocks(["{uri}"], store).bind(["uri"])({"uri": ["s3://b/1", "s3://b/1"]})

    assert store.read_uris == ["s3://b/1"]


# ---------------------------------------------------------------- what authors write


def test_files_is_a_list_of_templates() -> None:
    check_files(["{uri}", "s3://conn@b/{name}.pdf", "{{ params.folder }}/{name}"])


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ("{uri}", "files must be a list of texts, not of type str"),
        ({"a": 1}, "not of type dict"),
        (None, "not None"),
        ([], "not an empty list"),
        ([7], r"files\[0\] must be a text, not of type int"),
        (["{uri}", ""], r"files\[1\]: it is empty"),
        (["data/{uri}"], r"files\[0\]: it is neither a URI nor an absolute path"),
        (["http://x/{uri}"], r"files\[0\]: nothing is fetched from the web"),
    ],
)
def test_other_files_are_refused_when_the_dag_is_parsed(files: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        check_files(files)


def test_a_single_text_gets_its_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r'Put the text into a list: files=\["\{uri\}"\]'):
        check_files("{uri}")


def test_placeholders_of_another_form_are_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(InputError, match=r"files\[0\]"):
        check_files(["s3://b/{}"])

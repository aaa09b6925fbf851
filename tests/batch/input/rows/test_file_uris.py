"""What values of a row may choose of a file's URI, and what they may not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.rows.file_uris import RowFileError, check_template, check_uri, shown_uri


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", "s3://bucket/a.pdf"),
        ("", "gs://bucket.with.dots/a b/ä#1?.pdf"),
        ("", "s3://bucket/100%.pdf"),
        ("", "s3://bucket/a@b.pdf"),
        ("", "s3://bucket/a#b?#"),
        ("", "s3://bucket/a..b/..c/...pdf"),
        ("s3://conn@bucket/", "a.pdf"),
        ("s3://conn@", "bucket/a.pdf"),
        ("s3://", "bucket/a.pdf"),
        ("abfs://conn@container/", "a/b"),
        ("/data/", "a.pdf"),
        ("/data/", "/etc/a.pdf"),
        ("~/", "a::b.pdf"),
        ("file:///data/", "a.pdf"),
        ("file://", "/data/a.pdf"),
    ],
)
def test_a_value_may_choose_a_file(written: str, value: str) -> None:
    check_uri(written + value, written)


@pytest.mark.parametrize(
    ("written", "value", "problem"),
    [
        ("", "s3://other@bucket/a", "connection"),
        ("", "s3://@bucket/a", "connection"),
        ("", "S3://other@bucket/a", "connection"),
        ("", "s3://user:secret@bucket/a", "connection"),
        ("s3://", "other@bucket/a", "connection"),
        ("s3://conn@", "x@bucket/a", "connection"),
        ("s3://conn@bucket", "@evil/a", "connection"),
        ("s3:/", "/other@bucket/a", "connection"),
        ("s", "3://other@bucket/a", "connection"),
        ("", r"s3://other@bucket\x/a", "connection"),
        ("", r"s3://x\@bucket/a", "connection"),
        ("", r"s3://bucket\x/a", "no bucket"),
        ("", "s3://other%40bucket/a", "no bucket"),
        ("", "s3://[bucket/a", "no bucket"),
        ("", "s3:///a", "no bucket"),
        ("", "s3://?a", "no bucket"),
        ("", "s3://bücket/a", "no bucket"),
        ("", "s3://b\uff20x/a", "no bucket"),
        ("", "s3://bucket/../other/a", "folder above"),
        ("s3://conn@bucket/mine/", "../a", "folder above"),
        ("s3://conn@bucket/mine/", "x/..", "folder above"),
        ("s3://conn@bucket/.", "./a", "folder above"),
        ("s3://conn@bucket/mine/", "%2e%2E/a", "folder above"),
        ("s3://conn@bucket/mine/", "%252e%252e%252fa", "folder above"),
        ("s3://conn@bucket/mine/", r"..\a", "folder above"),
        ("s3://conn@bucket/mine/", "x/.. /a", "folder above"),
        ("/data/", "../etc/passwd", "folder above"),
        ("file:///data/", "..%2fetc/passwd", "folder above"),
        ("", "/etc/passwd", "no URI"),
        ("", "file:///etc/passwd", "worker's disk"),
        ("", "FILE:///etc/passwd", "worker's disk"),
        ("", "local:///etc/passwd", "worker's disk"),
        ("fi", "le:///etc/passwd", "worker's disk"),
        ("", "file:/etc/passwd", "no URI"),
        ("", "a.pdf", "no URI"),
        ("", "~/.ssh/id_rsa", "no URI"),
        ("", "s3:bucket/a", "no URI"),
        ("", "1s3://bucket/a", "no URI"),
        ("", "simplecache::file:///etc/passwd", "no URI"),
        ("", "s3://bucket/a::file:///etc/passwd", "begins another URI"),
        ("s3://conn@bucket/", "a::file:///etc/passwd", "begins another URI"),
        ("s3://conn@bucket/mine/", "#", "Airflow leaves out"),
        ("", "s3://bucket/a?#b", "Airflow leaves out"),
        ("/data/mine/", "..#", "Airflow leaves out"),
        ("/data/mine/", "a.pdf?", "Airflow leaves out"),
        ("", "https://example.org/a.pdf", "web"),
        ("", "HTTP://169.254.169.254/latest", "web"),
        ("", "s3://bucket/a\0.pdf", "control characters"),
        ("s3://conn@bucket/", "a\nb", "control characters"),
        ("s3://conn@bucket/", "\ud800", "control characters"),
        ("", "s3://buc\tket/a", "control characters"),
        ("", "s3://bucket/" + "a" * 5000, "too long"),
        ("", "s3://bucket/folder/", "is a folder"),
        ("s3://conn@bucket/mine/", ".", "is a folder"),
    ],
)
def test_a_value_may_not_reach_further(written: str, value: str, problem: str) -> None:
    with pytest.raises(RowFileError) as caught:
        check_uri(written + value, written)

    assert problem in caught.value.problem
    assert caught.value.remedy
    assert "secret" not in caught.value.sentence(100)
    assert len(caught.value.sentence(62)) <= 78


_WRITTEN = ("", "s3://conn@bucket/mine/", "s3://bucket/", "s3://", "/data/", "file:///data/", "s3://conn@")
_PIECES = st.sampled_from(
    ["..", "/", "//", "\\", "@", ":", "::", "s3", "file", "http", "conn", "bucket", "a", ".", "%2e", "%2F", "%40", "~",
     "\0", "\n", " ", "#", "?", "[", "é", "\uff0e"]
)  # fmt: skip


@given(st.sampled_from(_WRITTEN), st.one_of(st.text(max_size=30), st.lists(_PIECES, max_size=12).map("".join)))
@example("", "s3://conn@bucket/a")
@example("s3://", "0#@")
@example("", "s3://bucket?a@b/c.pdf")
def test_nothing_that_passes_reaches_further(written: str, value: str) -> None:
    """Airflow's own class says what a URI names: see also the tests of the file store."""
    uri = (written + value).strip()
    try:
        check_uri(uri, written)
    except RowFileError:
        return
    scheme, separator, rest = uri.partition("://")
    if not separator or "/" in scheme:
        assert written.startswith("/")
        assert Path(uri).resolve().is_relative_to("/data") or "/data" not in written
    else:
        assert scheme.lower() not in ("http", "https")
        assert scheme.lower() != "file" or written.startswith("file://")
        authority = rest.partition("/")[0]
        assert authority.rpartition("@")[:2] == written.partition("://")[2].rpartition("@")[:2]
    assert ".." not in unquote(uri).replace("\\", "/").split("/")


@pytest.mark.parametrize(
    "text",
    ["{uri}", "s3://conn@bucket/{name}", "/data/{name}", "~/{name}", "{{ var.value.base }}/{name}", "s3://b/fixed.pdf"],
)
def test_a_template_is_a_uri_a_path_or_a_column(text: str) -> None:
    check_template(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" ", "empty"),
        ("data/{name}", "neither a URI nor an absolute path"),
        ("s3:{rest}", "neither a URI nor an absolute path"),
        ("https://example.org/{name}", "web"),
        ("s3://bucket/../{name}", "folder above"),
    ],
)
def test_other_templates_are_refused(text: str, problem: str) -> None:
    with pytest.raises(RowFileError) as caught:
        check_template(text)

    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/a.pdf", "'s3://bucket/a.pdf'"),
        ("s3://user:secret@bucket/a.pdf", "'s3://bucket/a.pdf'"),
        ("https://host/a.pdf?X-Amz-Signature=secret", "'https://host/a.pdf'"),
        ("a" * 100 + "/b.pdf", repr("…" + "a" * 38 + "/b.pdf")),
        ("Summarise this letter / or do not", "the value"),
    ],
)
def test_errors_show_a_uri_without_its_secrets(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown

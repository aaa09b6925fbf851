"""Files that an earlier release stored in a submission's folder are read, and written again to the byte.

The literals were written by the release before the modules of ``batch.input`` were split. They are never regenerated.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.output_schema import SCHEMA_FILE, load_schema, read_schema, write_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.storage import LocalFolder

FORMAT = (
    r'{"type":"json_schema","schema":{"type":"object","properties":{"label":{"enum":["good","bad"]},"s'
    r'tars":{"type":"integer","description":"{minimum: 1, maximum: 5}"}},"required":["label"],"additio'
    r'nalProperties":false}}'
)
REQUESTS = (
    r'{"hash":"NUSsBbDaisNY5qsAMyUgrg","key":0,"params":{"model":"claude-haiku-5-5","max_tokens":64,"m'
    + r'essages":[{"role":"user","content":"Größe?"}],"output_config":{"format":'
    + FORMAT
    + r"}}}"
    + "\n"
    + r'{"hash":"Qbxu-pT1_fNQ5qquwQ8RBw","key":{"at":"x","id":7},"params":{"model":"claude-haiku-5-5","m'
    + r'ax_tokens":64,"messages":[{"role":"user","content":"a \"quoted\" text\n"}],"output_config":{"for'
    + r'mat":'
    + FORMAT
    + r"}}}"
    + "\n"
    + r'{"hash":"NUSsBbDaisNY5qsAMyUgrg","key":"twin","params":null}'
    + "\n"
    + r'{"hash":"1J98e7t-84O3cjpTIGNCkw","key":"api","params":{"model":"claude-haiku-5-5","max_tokens":6'
    + r'4,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"output_config":{"format"'
    + r":null}}}"
    + "\n"
)
DIGEST = "db2fb032cdd13788616d93279beff5a799d025a604396853590e73d6419b2b94"
STORED_SCHEMA = (
    r'{"schema":{"type":"object","properties":{"label":{"enum":["good","bad"]},"stars":{"type":"intege'
    + r'r","minimum":1,"maximum":5}},"required":["label"]},"format":'
    + FORMAT
    + r"}"
)
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["label"],
}
MESSAGES = [
    "Größe?",
    {"key": {"id": 7, "at": "x"}, "prompt": 'a "quoted" text\n'},
    {"key": "twin", "prompt": "Größe?"},
    {
        "custom_id": "api",
        "params": {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "output_config": {"format": None},
        },
    },
]


def test_requests_of_an_earlier_release_are_read_and_sent_as_they_were(tmp_path: Path) -> None:
    (tmp_path / REQUESTS_FILE).write_text(REQUESTS, encoding="utf-8")

    with RequestFile(tmp_path / REQUESTS_FILE) as requests:
        body = CreateBody(requests, [0, 1, 3], "0123456789ab")
        items = json.loads(b"".join(body.chunks()))["requests"]

        assert requests.digest == DIGEST
        assert requests.duplicates == {2: 0}
        assert list(requests.keys()) == [b"0", b'{"at":"x","id":7}', b'"twin"', b'"api"']
        assert requests.model(2) == "claude-haiku-5-5"
        assert requests.max_tokens(0) == 64
    assert [item["custom_id"] for item in items] == [
        "0123456789ab-0-NUSsBbDaisNY5qsAMyUgrg",
        "0123456789ab-1-Qbxu-pT1_fNQ5qquwQ8RBw",
        "0123456789ab-3-1J98e7t-84O3cjpTIGNCkw",
    ]
    assert [item["params"] for item in items] == [
        json.loads(REQUESTS.split("\n")[index])["params"] for index in (0, 1, 3)
    ]


def test_requests_are_written_as_an_earlier_release_wrote_them() -> None:
    defaults = Defaults(model="claude-haiku-5-5", max_tokens=64, output_format=read_schema(SCHEMA).format)
    file = io.BytesIO()

    write_requests((read_request(message, i, defaults) for i, message in enumerate(MESSAGES)), file, deduplicate=True)

    assert file.getvalue() == REQUESTS.encode()


def test_output_schema_of_an_earlier_release_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    (tmp_path / SCHEMA_FILE).write_text(STORED_SCHEMA)

    schema = load_schema(folder)

    assert schema == read_schema(SCHEMA)
    assert schema is not None
    write_schema(folder, schema)
    assert (tmp_path / SCHEMA_FILE).read_text() == STORED_SCHEMA

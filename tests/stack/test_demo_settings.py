"""The demo's settings."""

import pytest

from demo.errors import DemoError
from demo.settings import Settings


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, Settings(), id="nothing"),
        pytest.param({"KEEP": "1"}, Settings(keep=True), id="keep"),
        pytest.param({"KEEP": "0", "LIVE": "", "YES": "false"}, Settings(), id="off"),
        pytest.param({"PORT": "9000"}, Settings(port=9000), id="port"),
        pytest.param(
            {"LIVE": "1", "ANTHROPIC_API_KEY": "sk-1", "YES": "1"},
            Settings(live=True, yes=True, api_key="sk-1"),
            id="live",
        ),
    ],
)
def test_environment_is_read(environ: dict[str, str], expected: Settings) -> None:
    assert Settings.read(environ) == expected


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_impossible_port_is_refused(port: str) -> None:
    with pytest.raises(DemoError, match=f"PORT must be a number from 1 to 65535, not '{port}'"):
        Settings.read({"PORT": port})


@pytest.mark.parametrize("environ", [{"LIVE": "1"}, {"LIVE": "1", "ANTHROPIC_API_KEY": " "}])
def test_live_without_a_key_names_what_is_missing(environ: dict[str, str]) -> None:
    with pytest.raises(DemoError, match="set ANTHROPIC_API_KEY"):
        Settings.read(environ)


def test_key_is_in_no_repr() -> None:
    assert "sk-secret" not in repr(Settings(live=True, api_key="sk-secret"))

"""The demo's settings, from environment variables or make's command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from demo.errors import DemoError

OFF = ("", "0", "no", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The demo's settings.

    :param keep: let Airflow keep running at the end.
    :param live: use the real API with ``api_key`` instead of the simulator.
    :param yes: send to the real API without asking first.
    :param port: port of Airflow's UI. None: 8080 or another free one.
    :param base_url: another address of the real API, such as a gateway's.
    """

    keep: bool = False
    live: bool = False
    yes: bool = False
    port: int | None = None
    api_key: str | None = None
    base_url: str | None = None

    def __repr__(self) -> str:
        return f"Settings(keep={self.keep}, live={self.live}, port={self.port})"  # never the key

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Read KEEP, LIVE, YES, PORT, ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.

        :raises DemoError: when PORT is invalid or LIVE lacks a key.
        """
        settings = cls(
            keep=_is_on(environ, "KEEP"),
            live=_is_on(environ, "LIVE"),
            yes=_is_on(environ, "YES"),
            port=_port(environ.get("PORT", "")),
            api_key=environ.get("ANTHROPIC_API_KEY", "").strip() or None,
            base_url=environ.get("ANTHROPIC_BASE_URL", "").strip() or None,
        )
        if settings.live and settings.api_key is None:
            raise DemoError(
                "LIVE=1 uses the real API, and no API key is set.\n"
                "Nothing was sent.\n"
                "To use it, set ANTHROPIC_API_KEY. To use the simulator, run `make demo` without LIVE."
            )
        return settings


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in OFF


def _port(value: str) -> int | None:
    if not value.strip():
        return None
    if value.strip().isdecimal() and 0 < int(value) < 65_536:
        return int(value)
    raise DemoError(f"PORT must be a number from 1 to 65535, not {value!r}.")

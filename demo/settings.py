"""What the person who starts the demo may say, by environment variables or on make's command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from demo.errors import DemoError

OFF = ("", "0", "no", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The demo's switches.

    :param keep: leave Airflow up at the end.
    :param live: use the real API with ``api_key`` instead of the simulator.
    :param yes: do not ask before sending to the real API.
    :param port: of Airflow's UI; None for one that is free.
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
        """Take KEEP, LIVE, YES, PORT, ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.

        :raises DemoError: one of them makes no sense.
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
                "LIVE=1 uses the real API and needs a key: set ANTHROPIC_API_KEY, or run `make demo` without LIVE."
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

"""The models that the simulator knows, as of 2026-11-24, and what each rejects.

Sources: the models overview, pricing and model-deprecations pages of 2026-10-08, the release notes to 2026-11-09, the
SDK of 2026-11-24 (its list of models and of deprecated ones), and for models up to Opus 5 a recorded ``/v1/models`` of
2026-08-02 (tidyverse/ellmer), which has limits, capabilities and release dates. What no source has is plausible. As in
the API, an unknown release date is the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTICE = timedelta(days=60)  # shortest notice before a retirement, model-deprecations page
EXTENDED_OUTPUT_TOKENS = 300_000  # beta output-300k-2026-03-24
EFFORTS = ("low", "medium", "high", "xhigh", "max")
THINKING_TYPES = ("enabled", "disabled", "adaptive", "between_tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model.

    :param version: its number as a pair. Most rules depend on it.
    :param max_tokens: largest value of the ``max_tokens`` parameter.
    :param cache_minimum: fewest tokens of a cacheable prefix.
    :param extended_output: whether the 300k output beta applies to it.
    """

    id: str
    display_name: str
    line: str
    version: tuple[int, int]
    aliases: tuple[str, ...] = ()
    created_at: datetime = _EPOCH
    deprecated_at: datetime | None = None
    retires_at: datetime | None = None
    max_tokens: int = 128_000
    max_input_tokens: int = 1_000_000
    cache_minimum: int = 1_024
    extended_output: bool = False

    def lifecycle(self, now: datetime) -> str:
        """Return ``active``, ``deprecated`` or ``retired``."""
        if self.retires_at is not None and now >= self.retires_at:
            return "retired"
        if self.deprecated_at is not None and now >= self.deprecated_at:
            return "deprecated"
        return "active"

    @property
    def rejects_prefill(self) -> bool:
        return self.version >= (4, 6)

    @property
    def rejects_enabled_thinking(self) -> bool:
        return self.version >= (4, 7) and self.id != "claude-mythos-preview"

    @property
    def interleaves_enabled_thinking(self) -> bool:
        """Whether a beta lets it think between tool calls on a budget. extended-thinking page of 2026-08-22."""
        return self.line != "haiku" and (4, 0) <= self.version <= (4, 6) and self.id != "claude-opus-4-6"

    @property
    def rejects_disabled_thinking(self) -> bool:
        return self.line == "fable" or self.id == "claude-opus-5-5"

    @property
    def rejects_forced_tools(self) -> bool:
        return self.id in ("claude-fable-5-1", "claude-opus-5-5", "claude-sonnet-5-5")

    @property
    def rejects_sampling(self) -> bool:
        return self.version >= (4, 7)

    @property
    def supports_inference_geo(self) -> bool:
        return self.version >= (4, 6)

    @property
    def supports_structured_outputs(self) -> bool:
        return self.version >= (4, 1)

    @property
    def efforts(self) -> tuple[str, ...]:
        """The accepted values of ``effort``."""
        if self.version >= (4, 7):
            return EFFORTS
        if self.version == (4, 6):
            return tuple(effort for effort in EFFORTS if effort != "xhigh")
        return ("low", "medium", "high") if self.line == "opus" and self.version == (4, 5) else ()

    @property
    def thinking_types(self) -> tuple[str, ...]:
        """The accepted values of ``thinking.type``. ``between_tools``: thinking-troubleshooting page of 2026-11-09."""
        accepted = {
            "enabled": self.version >= (3, 7) and not self.rejects_enabled_thinking,
            "disabled": not self.rejects_disabled_thinking,
            "adaptive": self.version >= (4, 6),
            "between_tools": self.id == "claude-sonnet-5-5",
        }
        return tuple(kind for kind, is_accepted in accepted.items() if is_accepted)

    def info(self, now: datetime) -> dict[str, Any]:
        """Build the API's ModelInfo."""
        lifecycle = self.lifecycle(now)
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.display_name,
            "created_at": _date(self.created_at),
            "line": self.line,
            "lifecycle": lifecycle,
            "deprecated_at": None if lifecycle == "active" else _date(self.deprecated_at),
            "retires_at": None if lifecycle == "active" else _date(self.retires_at),
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        yes, modern = {"supported": True}, {"supported": self.version >= (4, 6)}
        thinking = {kind: {"supported": kind in self.thinking_types} for kind in THINKING_TYPES}
        return {
            "batch": yes,
            "citations": yes,
            "code_execution": {"supported": self.version >= (4, 5) and (self.line, self.version) != ("haiku", (4, 5))},
            "context_management": {
                **yes,
                "clear_thinking_20251015": yes,
                "clear_tool_uses_20250919": yes,
                "compact_20260112": modern,
            },
            "effort": {
                "supported": bool(self.efforts),
                **{effort: {"supported": effort in self.efforts} for effort in EFFORTS},
            },
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {**yes, "code_execution": yes, "web_search": yes},
            "structured_outputs": {"supported": self.supports_structured_outputs},
            "thinking": {"supported": self.version >= (3, 7), "types": thinking},
        }


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _model(name: str, version: tuple[int, int], **facts: Any) -> Model:
    line, _, rest = name.partition("-")
    number = rest if rest == "preview" else f"{version[0]}" + (f".{version[1]}" if version[1] else "")
    return Model(
        id=facts.pop("id", f"claude-{name}"),
        display_name=f"Claude {line.capitalize()} {number.capitalize()}",
        line=line,
        version=version,
        **facts,
    )


def _dated(name: str, version: tuple[int, int], day: str, **facts: Any) -> Model:
    """Build a model whose id contains a date. The name without the date is its alias."""
    aliases = (f"claude-{name}", *facts.pop("aliases", ()))
    created_at = facts.pop("created_at", datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC))
    dated_id = facts.pop("id", f"claude-{name}-{day}")
    return _model(
        name,
        version,
        id=dated_id,
        aliases=aliases,
        created_at=created_at,
        max_input_tokens=facts.pop("max_input_tokens", 200_000),
        **facts,
    )


def _retirement(year: int, month: int, day: int) -> dict[str, datetime]:
    date = _day(year, month, day)
    return {"retires_at": date, "deprecated_at": date - _NOTICE}


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


_HAIKU_RELEASE = _day(2026, 10, 7)
_FABLE_RELEASE = _day(2026, 11, 9)

# Newest first, which is the order of the API's list.
MODELS: tuple[Model, ...] = (
    _model("fable-5-2", (5, 2), created_at=_FABLE_RELEASE),
    _model("mythos-5-2", (5, 2), created_at=_FABLE_RELEASE),
    _model("haiku-5-5", (5, 5), created_at=_HAIKU_RELEASE, extended_output=True, cache_minimum=512),
    _model("sonnet-5-5", (5, 5), extended_output=True),
    _model("fable-5-1", (5, 1)),
    _model("opus-5-5", (5, 5), extended_output=True),
    _model("mythos-5-1", (5, 1)),
    _model("opus-5", (5, 0), extended_output=True, created_at=_day(2026, 7, 24)),
    _model("sonnet-5", (5, 0), extended_output=True, created_at=_day(2026, 6, 29)),
    _model("fable-5", (5, 0), created_at=_day(2026, 6, 7)),
    _model("mythos-5", (5, 0)),
    _model("opus-4-8", (4, 8), extended_output=True, created_at=_day(2026, 5, 28)),
    _model("opus-4-7", (4, 7), extended_output=True, created_at=_day(2026, 4, 14)),
    _model("mythos-preview", (5, 0), deprecated_at=_HAIKU_RELEASE),
    _model("sonnet-4-6", (4, 6), extended_output=True, created_at=_day(2026, 2, 17)),
    _model("opus-4-6", (4, 6), extended_output=True, cache_minimum=4_096, created_at=_day(2026, 2, 4)),
    _dated(
        "opus-4-5",
        (4, 5),
        "20251101",
        created_at=_day(2025, 11, 24),
        max_tokens=64_000,
        cache_minimum=4_096,
        **_retirement(2027, 1, 22),
    ),
    _dated("haiku-4-5", (4, 5), "20251001", created_at=_day(2025, 10, 15), max_tokens=64_000, cache_minimum=4_096),
    _dated(
        "sonnet-4-5",
        (4, 5),
        "20250929",
        max_tokens=64_000,
        max_input_tokens=1_000_000,
        **_retirement(2026, 11, 30),
    ),
    _dated("opus-4-1", (4, 1), "20250805", max_tokens=32_000, **_retirement(2026, 8, 5)),
    _dated("opus-4", (4, 0), "20250514", max_tokens=32_000, **_retirement(2026, 6, 15)),
    _dated("sonnet-4", (4, 0), "20250514", max_tokens=64_000, **_retirement(2026, 6, 15)),
    _dated(
        "sonnet-3-7",
        (3, 7),
        "20250219",
        id="claude-3-7-sonnet-20250219",
        aliases=("claude-3-7-sonnet-latest",),
        max_tokens=64_000,
        **_retirement(2026, 2, 19),
    ),
    _dated(
        "haiku-3-5",
        (3, 5),
        "20241022",
        id="claude-3-5-haiku-20241022",
        aliases=("claude-3-5-haiku-latest",),
        max_tokens=8_192,
        **_retirement(2026, 2, 19),
    ),
    _dated(
        "sonnet-3-5",
        (3, 5),
        "20241022",
        id="claude-3-5-sonnet-20241022",
        aliases=("claude-3-5-sonnet-20240620", "claude-3-5-sonnet-latest"),
        max_tokens=8_192,
        **_retirement(2025, 10, 28),
    ),
    _dated(
        "haiku-3",
        (3, 0),
        "20240307",
        id="claude-3-haiku-20240307",
        max_tokens=4_096,
        **_retirement(2026, 4, 20),
    ),
    _dated("opus-3", (3, 0), "20240229", id="claude-3-opus-20240229", max_tokens=4_096, **_retirement(2026, 1, 5)),
    _dated(
        "sonnet-3",
        (3, 0),
        "20240229",
        id="claude-3-sonnet-20240229",
        max_tokens=4_096,
        **_retirement(2025, 7, 21),
    ),
)

"""The models that the simulator knows, as of 2026-11-22, and what each rejects.

Sources: the models overview, pricing and model-deprecations pages of 2026-10-08, and the release notes to 2026-11-09.
They document the output caps of Haiku 4.5 (64,000) and the 5.5 line (128,000). The other caps and some dates are
plausible values. As in the API, an unknown release date is the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTICE = timedelta(days=60)  # shortest notice before a retirement, model-deprecations page
EXTENDED_OUTPUT_TOKENS = 300_000  # beta output-300k-2026-03-24


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
        return self.version >= (4, 7)

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
        return {
            "batch": yes,
            "citations": yes,
            "code_execution": yes,
            "context_management": {
                **yes,
                "clear_thinking_20251015": yes,
                "clear_tool_uses_20250919": yes,
                "compact_20260112": modern,
            },
            "effort": {**modern, "low": modern, "medium": modern, "high": modern, "xhigh": modern, "max": modern},
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {**yes, "code_execution": yes, "web_search": yes},
            "structured_outputs": {"supported": self.version >= (4, 5)},
            "thinking": {
                **yes,
                "types": {"adaptive": modern, "enabled": {"supported": not self.rejects_enabled_thinking}},
            },
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
    created_at = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    dated_id = facts.pop("id", f"claude-{name}-{day}")
    return _model(
        name,
        version,
        id=dated_id,
        aliases=aliases,
        created_at=created_at,
        max_input_tokens=200_000,
        **facts,
    )


def _retirement(year: int, month: int, day: int) -> dict[str, datetime]:
    date = datetime(year, month, day, tzinfo=UTC)
    return {"retires_at": date, "deprecated_at": date - _NOTICE}


_HAIKU_RELEASE = datetime(2026, 10, 7, tzinfo=UTC)
_FABLE_RELEASE = datetime(2026, 11, 9, tzinfo=UTC)

# Newest first, which is the order of the API's list.
MODELS: tuple[Model, ...] = (
    _model("fable-5-2", (5, 2), created_at=_FABLE_RELEASE),
    _model("mythos-5-2", (5, 2), created_at=_FABLE_RELEASE),
    _model("haiku-5-5", (5, 5), created_at=_HAIKU_RELEASE, extended_output=True, cache_minimum=512),
    _model("sonnet-5-5", (5, 5), extended_output=True),
    _model("fable-5-1", (5, 1)),
    _model("opus-5-5", (5, 5), extended_output=True),
    _model("mythos-5-1", (5, 1)),
    _model("sonnet-5", (5, 0), extended_output=True),
    _model("fable-5", (5, 0)),
    _model("mythos-5", (5, 0)),
    _model("opus-5", (5, 0), extended_output=True, created_at=datetime(2026, 7, 23, tzinfo=UTC)),
    _model("opus-4-8", (4, 8), extended_output=True),
    _model("opus-4-7", (4, 7), extended_output=True),
    _model("mythos-preview", (5, 0), deprecated_at=_HAIKU_RELEASE),
    _model("opus-4-6", (4, 6), extended_output=True, cache_minimum=4_096),
    _model("sonnet-4-6", (4, 6), extended_output=True, max_tokens=64_000),
    _dated("opus-4-5", (4, 5), "20251101", max_tokens=64_000, cache_minimum=4_096, **_retirement(2027, 1, 22)),
    _dated("haiku-4-5", (4, 5), "20251001", max_tokens=64_000, cache_minimum=4_096),
    _dated("sonnet-4-5", (4, 5), "20250929", max_tokens=64_000, **_retirement(2026, 11, 30)),
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

_BY_NAME = {name: model for model in MODELS for name in (model.id, *model.aliases)}


def find_model(name: object) -> Model | None:
    """Find the model with that id or alias, including retired ones. None: there is none."""
    return _BY_NAME.get(name) if isinstance(name, str) else None


def usable_model(name: object, *, now: datetime) -> Model | None:
    """Find the model with that id or alias. None: it is unknown or retired."""
    model = find_model(name)
    return None if model is None or model.lifecycle(now) == "retired" else model

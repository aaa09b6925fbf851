"""Thinking blocks: which requests think, and what the API shows of it.

Sources: the page "Thinking" (2026-10) and the migration guide of Opus 5.5 (2026-09-30), both of the vendor.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any, Literal

from airflow_claude_batch.simulator.messages.models import Model
from airflow_claude_batch.simulator.messages.prompts import Params, last_user_text

_EXCERPT = 60
_SIGNATURE_START = b"\x12\x8b\x27"  # as base64 "Eosn", as signatures in the documentation begin
_SIGNATURE_BYTES = 147


def thinking_of(params: Params, model: Model) -> Literal["on", "default", "off"]:
    """Tell whether a request thinks: it asks for it, its model does so unless told otherwise, or it does not.

    ``between_tools`` is for notes between the uses of tools: an answer does not begin with thinking.
    """
    config = params.get("thinking")
    kind = config.get("type") if isinstance(config, dict) else None
    if kind in ("adaptive", "enabled"):
        return "on"
    return "default" if kind is None and model.version >= (5, 0) else "off"


def default_thinking(params: Params) -> str:
    """Write readable thinking about the last user message."""
    return f"Simulated thinking about “{last_user_text(params)[:_EXCERPT]}”: a short answer will do."


def as_shown(content: Iterable[dict[str, Any]], params: Params, model: Model) -> list[dict[str, Any]]:
    """Sign the thinking blocks that have no signature, and leave their text out where the API does.

    Blocks with a signature stay as they are.
    """
    omitted = _display(params, model) != "summarized"
    return [_sealed(block, omitted=omitted) for block in content]


def _display(params: Params, model: Model) -> str:
    config = params.get("thinking")
    display = config.get("display") if isinstance(config, dict) else None
    return display or ("omitted" if model.version >= (4, 7) else "summarized")


def _sealed(block: dict[str, Any], *, omitted: bool) -> dict[str, Any]:
    if block.get("type") != "thinking" or "signature" in block:
        return block
    digest = hashlib.shake_256(block["thinking"].encode(errors="surrogatepass")).digest(_SIGNATURE_BYTES)
    signature = base64.b64encode(_SIGNATURE_START + digest).decode()
    return {**block, "thinking": "" if omitted else block["thinking"], "signature": signature}

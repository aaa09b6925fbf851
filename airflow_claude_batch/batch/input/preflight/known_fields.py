"""The parameters, blocks, tools and fields that the API has: those of the vendor's SDK 2.14.0, ``anthropic/types``.

A test compares these tables with the SDK that is installed. Fields of betas are in them too: a field is refused only if
no beta has it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Parameters of a request in a batch. The sampling parameters are those of API version 2023-06-01.
PARAMETERS: Final = frozenset(
    {"cache_control", "container", "diagnostics", "inference_geo", "max_tokens", "messages", "metadata", "model"}
    | {"output_config", "service_tier", "stop_sequences", "stream", "system", "temperature", "thinking"}
    | {"tool_choice", "tools", "top_k", "top_p", "user_profile_id", "workspace_id"}
)
#: Parameters that the API takes only under a beta.
BETA_PARAMETERS: Final = frozenset({"billing_policy", "compaction", "context_management", "mcp_servers"})
#: Parameters that no request of a batch may have; build-with-claude/batch-processing.
NOT_IN_A_BATCH: Final = frozenset(
    {"cache_hint", "context_hint", "fallback_credit_token", "fallbacks", "previous_thread_event_id"}
    | {"research_preview_2026_02", "speed", "store", "stream", "thread"}
)
MESSAGE: Final = frozenset({"role", "content"})
#: Fields of a system message that betas have.
SYSTEM_MESSAGE: Final = MESSAGE | {"clear_at", "output_config"}
EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")


class Shape(NamedTuple):
    """The fields of one kind of object."""

    required: frozenset[str]
    fields: frozenset[str]


def _shape(required: str, optional: str = "") -> Shape:
    needed = frozenset(required.split())
    return Shape(needed, needed | {"type"} | frozenset(optional.split()))


_RESULT: Final = _shape("tool_use_id content", "cache_control")
_WEB_RESULT: Final = _shape("tool_use_id content", "cache_control caller")

#: Content blocks of messages, by type.
BLOCKS: Final = {
    "text": _shape("text", "cache_control citations"),
    "image": _shape("source", "cache_control transformations"),
    "document": _shape("source", "cache_control citations context title"),
    "search_result": _shape("content source title", "cache_control citations"),
    "thinking": _shape("signature thinking"),
    "redacted_thinking": _shape("data"),
    "tool_use": _shape("id input name", "cache_control caller toolset_name"),
    "tool_result": _shape("tool_use_id", "cache_control content is_error toolset_name"),
    "server_tool_use": _shape("id input name", "cache_control caller"),
    "web_search_tool_result": _WEB_RESULT,
    "web_fetch_tool_result": _WEB_RESULT,
    "code_execution_tool_result": _RESULT,
    "bash_code_execution_tool_result": _RESULT,
    "text_editor_code_execution_tool_result": _RESULT,
    "tool_search_tool_result": _RESULT,
    "container_upload": _shape("file_id", "cache_control"),
    "advisor_tool_result": _RESULT,
    "compaction": _shape("", "cache_control content encrypted_content signature tool_changes"),
    "fallback": _shape("from to", "trigger"),
    "mcp_tool_listing": _shape("mcp_server_name tools"),
    "mcp_tool_use": _shape("id input name server_name", "cache_control"),
    "mcp_tool_result": _shape("tool_use_id", "cache_control content is_error"),
    "tool_addition": _shape("tool", "cache_control"),
    "tool_removal": _shape("tool", "cache_control"),
}
#: Content blocks inside of a ``tool_result``.
TOOL_RESULT_BLOCKS: Final = {
    **{kind: BLOCKS[kind] for kind in ("text", "image", "document", "search_result")},
    "tool_reference": _shape("tool_name", "cache_control"),
    "browser_state": _shape("tabs", "cache_control state_changes"),
}
_URL_OR_FILE: Final = {"url": _shape("url"), "file": _shape("file_id")}
#: ``source`` of images and of documents, by type.
SOURCES: Final = {
    "image": {"base64": _shape("data media_type"), **_URL_OR_FILE},
    "document": {
        "base64": _shape("data media_type"),
        "text": _shape("data media_type"),
        "content": _shape("content"),
        **_URL_OR_FILE,
    },
}
THINKING: Final = {
    "adaptive": _shape("", "display block_binding"),
    "enabled": _shape("budget_tokens", "display block_binding"),
    "disabled": _shape(""),
    "between_tools": _shape(""),
}
TOOL_CHOICES: Final = {
    "auto": _shape("", "disable_parallel_tool_use"),
    "any": _shape("", "disable_parallel_tool_use"),
    "tool": _shape("name", "disable_parallel_tool_use"),
    "none": _shape(""),
}
OUTPUT_CONFIG: Final = frozenset({"effort", "format", "task_budget"})
OUTPUT_FORMAT: Final = frozenset({"type", "schema"})
CACHE_CONTROL: Final = frozenset({"type", "ttl"})
METADATA: Final = frozenset({"user_id"})


class ToolKind(NamedTuple):
    """One kind of tool: the only name it may have (None: no name, or any), its fields, and if it needs a beta."""

    name: str | None
    shape: Shape
    is_beta: bool = False


_COMMON: Final = "allowed_callers cache_control defer_loading strict"
_WEB: Final = f"{_COMMON} allowed_domains blocked_domains max_uses"
_SCREEN: Final = f"{_COMMON} input_examples display_number"
_EDIT: Final = "str_replace_based_edit_tool"


def _tool(name: str, optional: str = _COMMON, *, needs: str = "", is_beta: bool = False) -> ToolKind:
    return ToolKind(name, _shape(f"name {needs}", optional), is_beta)


_PIXELS: Final = "display_width_px display_height_px"
#: Tools by type. A tool without a type is ``custom``.
TOOLS: Final = {
    "custom": ToolKind(
        None, _shape("name input_schema", f"{_COMMON} description eager_input_streaming input_examples")
    ),
    "bash_20250124": _tool("bash", f"{_COMMON} input_examples"),
    "memory_20250818": _tool("memory", f"{_COMMON} input_examples"),
    "text_editor_20250124": _tool("str_replace_editor", f"{_COMMON} input_examples"),
    "text_editor_20250429": _tool(_EDIT, f"{_COMMON} input_examples"),
    "text_editor_20250728": _tool(_EDIT, f"{_COMMON} input_examples max_characters"),
    **{f"code_execution_{day}": _tool("code_execution") for day in (20250522, 20250825, 20260120, 20260521)},
    "tool_search_tool_bm25_20251119": _tool("tool_search_tool_bm25"),
    "tool_search_tool_bm25": _tool("tool_search_tool_bm25"),
    "tool_search_tool_regex_20251119": _tool("tool_search_tool_regex"),
    "tool_search_tool_regex": _tool("tool_search_tool_regex"),
    "web_search_20250305": _tool("web_search", f"{_WEB} user_location"),
    "web_search_20260209": _tool("web_search", f"{_WEB} user_location"),
    "web_search_20260318": _tool("web_search", f"{_WEB} user_location response_inclusion"),
    "web_fetch_20250910": _tool("web_fetch", f"{_WEB} citations max_content_tokens url_sources"),
    "web_fetch_20260209": _tool("web_fetch", f"{_WEB} citations max_content_tokens url_sources"),
    "web_fetch_20260309": _tool("web_fetch", f"{_WEB} citations max_content_tokens url_sources use_cache"),
    "web_fetch_20260318": _tool(
        "web_fetch", f"{_WEB} citations max_content_tokens url_sources use_cache response_inclusion"
    ),
    "computer_toolset_20260801": ToolKind(None, _shape("", "cache_control configs")),
    "browser_toolset_20260801": ToolKind(None, _shape("", "cache_control configs")),
    "mcp_toolset": ToolKind(None, _shape("mcp_server_name", "cache_control configs default_config tools"), True),
    "advisor_20260301": _tool("advisor", f"{_COMMON} caching max_tokens max_uses", needs="model", is_beta=True),
    "bash_20241022": _tool("bash", f"{_COMMON} input_examples", is_beta=True),
    "text_editor_20241022": _tool("str_replace_editor", f"{_COMMON} input_examples", is_beta=True),
    "computer_20241022": _tool("computer", _SCREEN, needs=_PIXELS, is_beta=True),
    "computer_20250124": _tool("computer", _SCREEN, needs=_PIXELS, is_beta=True),
    "computer_20251124": _tool("computer", f"{_SCREEN} enable_zoom", needs=_PIXELS, is_beta=True),
}

"""Parameters that other APIs and the vendor's SDKs have, and what to give instead."""

from __future__ import annotations

from typing import Final

_NONE: Final = "Remove it: the API has nothing like it."
_OF_THE_SDK: Final = "Remove it: it is an argument of the SDK. Timeouts, headers and retries are set in the connection."
_SCHEMA: Final = "Use output_schema, or 'output_config': {'format': {'type': 'json_schema', 'schema': {…}}}."
_EFFORT: Final = "Use 'output_config': {'effort': 'low'}."
_MAX_TOKENS: Final = "Use 'max_tokens'."
_TOOLS: Final = "Use 'tools': [{'name': …, 'description': …, 'input_schema': {…}}]."

MEANT: Final = {
    "stop": "Use 'stop_sequences', a list of texts.",
    "stop_sequence": "Use 'stop_sequences', a list of texts.",
    "max_completion_tokens": _MAX_TOKENS,
    "max_output_tokens": _MAX_TOKENS,
    "max_new_tokens": _MAX_TOKENS,
    "max_tokens_to_sample": _MAX_TOKENS,
    "maxTokens": _MAX_TOKENS,
    "response_format": _SCHEMA,
    "output_format": _SCHEMA,
    "output_schema": _SCHEMA,
    "format": _SCHEMA,
    "json_schema": _SCHEMA,
    "effort": _EFFORT,
    "reasoning_effort": _EFFORT,
    "reasoning": "Use 'thinking': {'type': 'adaptive'}, and 'output_config': {'effort': 'low'}.",
    "budget_tokens": "Use 'thinking': {'type': 'enabled', 'budget_tokens': …}, for models that have budgets.",
    "functions": _TOOLS,
    "function_call": "Use 'tools' and 'tool_choice'.",
    "parallel_tool_calls": "Use 'tool_choice': {'type': 'auto', 'disable_parallel_tool_use': True}.",
    "disable_parallel_tool_use": "Use 'tool_choice': {'type': 'auto', 'disable_parallel_tool_use': True}.",
    "user": "Use 'metadata': {'user_id': …}.",
    "user_id": "Use 'metadata': {'user_id': …}.",
    "prompt": "Put the prompt into 'messages': [{'role': 'user', 'content': …}].",
    "input": "Put the prompt into 'messages': [{'role': 'user', 'content': …}].",
    "system_prompt": "Use 'system'.",
    "instructions": "Use 'system'.",
    "ttl": "Use 'cache_control': {'type': 'ephemeral', 'ttl': '1h'}.",
    "betas": "Add the names to betas in the connection's extra: a header names them, for the whole batch.",
    "anthropic_beta": "Add the names to betas in the connection's extra: a header names them, for the whole batch.",
    "anthropic_version": "Remove it, and set api_version in the connection's extra.",
    "custom_id": "Put 'custom_id' beside 'params', or give 'key'.",
    **dict.fromkeys(("extra_headers", "extra_body", "extra_query", "timeout", "max_retries"), _OF_THE_SDK),
    **dict.fromkeys(
        ("n", "seed", "logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty"), _NONE
    ),
    **dict.fromkeys(("best_of", "echo", "suffix", "top_a", "min_p", "repetition_penalty"), _NONE),
}

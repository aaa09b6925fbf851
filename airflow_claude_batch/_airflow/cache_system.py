"""Marks the operator's system prompt for the prompt cache, in each request as its own marks allow."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.cache_marks import with_system_mark
from airflow_claude_batch.exceptions import InputError

log = logging.getLogger(__name__)


class CacheSystem:
    """Puts the mark on requests that have the operator's system prompt. One with a prompt of its own gets none.

    :raises InputError: there is no system prompt, or it is no list of blocks.
    """

    def __init__(self, system: Any) -> None:
        if not system or (isinstance(system, str) and not system.strip()):
            raise InputError(
                "cache_system=True needs a system prompt, and there is none.",
                "Nothing was sent.",
                "Give system, or leave cache_system out.",
            )
        if isinstance(system, list | tuple) and not all(isinstance(block, Mapping) for block in system):
            raise InputError(
                "system has an element that is not a mapping.",
                "Nothing was sent.",
                "Give a string, or a list of content blocks such as {'type': 'text', 'text': …}.",
            )
        self._system = system
        self._noted: set[str] = set()

    def put_on(self, request: Request) -> Request:
        """Return the request with the mark. Says once in the log why a mark is shorter, or missing."""
        is_operators = request.params.get("system") is self._system
        if not is_operators or not isinstance(self._system, str | list | tuple):
            return request
        params, note = with_system_mark(request.params)
        if note and note not in self._noted:
            self._noted.add(note)
            log.warning(note)
        return msgspec.structs.replace(request, params=params)

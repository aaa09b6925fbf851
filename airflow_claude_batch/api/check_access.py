"""Finding out, free of charge, whether a configuration can be used for message batches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.endpoints import Call, Cursor
from airflow_claude_batch.api.http import CallFailed
from airflow_claude_batch.api.responses import read_response
from airflow_claude_batch.api.transport import Transport

LONGEST_WAIT_SECONDS: Final = 20.0  # a person looks at the screen


@dataclass(frozen=True, slots=True)
class Access:
    """Where a credential acts, as far as the API's headers say: a gateway may drop them.

    :param models: whether the model catalogue can be read too; batches do without it.
    """

    organization_id: str | None
    workspace_id: str | None
    models: bool


def check_access(config: ClientConfig) -> Access:
    """List one message batch and one model, each asked once.

    :raises APIError: message batches cannot be used; says why.
    :raises ConfigurationError: certificates, proxy or identity token cannot be used.
    """
    brisk = replace(
        config,
        connect_timeout=min(config.connect_timeout, LONGEST_WAIT_SECONDS),
        read_timeout=min(config.read_timeout, LONGEST_WAIT_SECONDS),
    )
    transport = Transport(brisk)
    try:
        headers = _headers_of(Cursor(limit=1).call(), brisk, transport)
        return Access(
            headers.get("anthropic-organization-id"),
            headers.get("anthropic-workspace-id"),
            models=_can_list_models(brisk, transport),
        )
    except CallFailed as failed:
        raise failed.error from failed.__cause__
    finally:
        transport.close()


def _can_list_models(config: ClientConfig, transport: Transport) -> bool:
    try:
        _headers_of(endpoints.list_models(limit=1, lifecycle=()), config, transport)
    except CallFailed:
        return False
    return True


def _headers_of(call: Call[Any], config: ClientConfig, transport: Transport) -> Mapping[str, str]:
    request = call.request(config, config.credentials.headers(transport.send, time.monotonic))
    answer = transport.send(request)
    read_response(request, answer, call.kind)
    return answer.headers

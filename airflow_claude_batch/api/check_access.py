"""Check, free of charge, whether a configuration can be used for message batches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.endpoints import Call
from airflow_claude_batch.api.http import CallFailed
from airflow_claude_batch.api.responses import read_response
from airflow_claude_batch.api.transport import Transport


@dataclass(frozen=True, slots=True)
class Access:
    """The organization and workspace of a credential, as the API's headers name them. A gateway may drop them.

    :param can_list_models: whether the credential can read the model catalogue. Batches work without it.
    """

    organization_id: str | None
    workspace_id: str | None
    can_list_models: bool


def check_access(config: ClientConfig) -> Access:
    """List one message batch and one model. Each call is sent once, with short timeouts.

    :raises APIError: message batches cannot be listed.
    :raises ConfigurationError: the certificates, the proxy or the identity token cannot be used.
    """
    config = config.with_short_timeouts()  # a person waits for the result
    transport = Transport(config)
    try:
        headers = _response_headers(endpoints.list_batches(limit=1), config, transport)
        return Access(
            headers.get("anthropic-organization-id"),
            headers.get("anthropic-workspace-id"),
            can_list_models=_can_list_models(config, transport),
        )
    except CallFailed as failed:
        raise failed.error from failed.__cause__
    finally:
        transport.close()


def _can_list_models(config: ClientConfig, transport: Transport) -> bool:
    try:
        _response_headers(endpoints.list_models(limit=1, lifecycle=()), config, transport)
    except CallFailed:
        return False
    return True


def _response_headers(call: Call[Any], config: ClientConfig, transport: Transport) -> Mapping[str, str]:
    request = config.credentials.sign(call.request(config), transport.send, time.monotonic)
    response = transport.send(request)
    read_response(request, response, call.response_type)
    return response.headers

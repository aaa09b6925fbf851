"""Workload identity: exchange an OIDC token for a short-lived access token.

Facts from manage-claude/wif-reference and the SDK's lib/credentials.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from airflow_claude_batch.api.base_url import check_base_url
from airflow_claude_batch.api.credentials import AsyncSend, Clock, Send, check_secret
from airflow_claude_batch.api.evidence import Effect
from airflow_claude_batch.api.http import HTTPRequest, HTTPResponse
from airflow_claude_batch.api.limits import (
    DEFAULT_BASE_URL,
    MAX_IDENTITY_TOKEN_BYTES,
    MAX_TOKEN_RESPONSE_BYTES,
)
from airflow_claude_batch.api.renewed_token import RenewedToken
from airflow_claude_batch.api.request_body import BytesBody
from airflow_claude_batch.api.responses import invalid_response_failure, read_response
from airflow_claude_batch.api.token_cache import Token, TokenCache
from airflow_claude_batch.exceptions import ConfigurationError

# Seconds; all from the SDK, lib/credentials/_constants.py.
EXCHANGE_TIMEOUT: Final = 30.0
REFRESH_EARLY: Final = 120.0  # before expiry: one caller fetches a new token, the others use the old one

OAUTH_BETA: Final = "oauth-2025-04-20"
_EXCHANGE_BETAS: Final = f"{OAUTH_BETA},oidc-federation-2026-04-01"


class _TokenResponse(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 3600.0  # the documented default


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity(RenewedToken):
    """An identity that an OIDC token of the platform proves. No key is stored anywhere.

    :param federation_rule_id: the rule in the Claude Console, ``fdrl_…``.
    :param organization_id: the organization's id.
    :param service_account_id: ``svac_…``. The documentation requires it, the SDK sends it only if it is set.
    :param workspace_id: needed if the federation rule enables several workspaces. The token then belongs to this one.
    :param identity_token: the OIDC token itself. Give this or ``identity_token_file``.
    :param identity_token_file: the file in which the platform keeps the OIDC token. It is read at every exchange,
        because the platform rotates the token.
    :param base_url: the host at which the token is exchanged.
    :param allow_http: consent to an exchange over http, except at Anthropic's own hosts.
    :raises ConfigurationError: a required value is missing, there are two tokens, or the base URL is not https.
    """

    federation_rule_id: str
    organization_id: str
    service_account_id: str | None = None
    workspace_id: str | None = None
    identity_token: str | None = field(default=None, repr=False)
    identity_token_file: str | None = None
    base_url: str = DEFAULT_BASE_URL
    allow_http: bool = False
    _cache: TokenCache = field(default_factory=TokenCache, init=False, repr=False, compare=False)

    betas: ClassVar[tuple[str, ...]] = (OAUTH_BETA,)
    names_workspace: ClassVar[bool] = True
    remedy: ClassVar[str] = (
        "Check the workload identity: federation rule, organization, service account, workspace, and the identity "
        "token's issuer, audience and expiry. The authentication events in the Claude Console say which of them is "
        "wrong, the API does not."
    )

    def __post_init__(self) -> None:
        if bool(self.identity_token) == bool(self.identity_token_file):
            raise ConfigurationError("A workload identity needs either identity_token or identity_token_file.")
        if not (self.federation_rule_id and self.organization_id):
            raise ConfigurationError("A workload identity needs federation_rule_id and organization_id.")
        check_base_url(self.base_url, allow_http=self.allow_http)

    def _fetch(self, send: Send, clock: Clock) -> Token:
        started = clock()
        request = self._request()
        return _read_token(request, send(request), started)

    async def _afetch(self, send: AsyncSend, clock: Clock) -> Token:
        started = clock()
        request = await asyncio.to_thread(self._request)
        return _read_token(request, await send(request), started)

    def _request(self) -> HTTPRequest:
        assertion = self._assertion()
        fields = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": assertion,
            "federation_rule_id": self.federation_rule_id,
            "organization_id": self.organization_id,
            "service_account_id": self.service_account_id,
            "workspace_id": self.workspace_id,
        }
        body = BytesBody(msgspec.json.encode({name: value for name, value in fields.items() if value}))
        return HTTPRequest(
            action="exchange the identity token for an access token",
            effect=Effect.READ_ONLY,
            method="POST",
            url=f"{check_base_url(self.base_url, allow_http=self.allow_http)}/v1/oauth/token",
            headers={"content-type": "application/json", "anthropic-beta": _EXCHANGE_BETAS},
            body=body,
            read_timeout=EXCHANGE_TIMEOUT,
            write_timeout=EXCHANGE_TIMEOUT,
            total_timeout=EXCHANGE_TIMEOUT,
            credential_remedy=self.remedy,
            not_found_remedy="Check the base URL, which is the connection's host: it exchanges no tokens.",
            max_response_bytes=MAX_TOKEN_RESPONSE_BYTES,
            secret_in_body=assertion,
        )

    def _assertion(self) -> str:
        token = self.identity_token or _read_file(self.identity_token_file or "")
        check_secret(token, "the identity token")
        if len(token) > MAX_IDENTITY_TOKEN_BYTES:
            raise ConfigurationError(
                f"The identity token has {len(token):,} bytes. The API accepts at most {MAX_IDENTITY_TOKEN_BYTES:,}."
            )
        return token.strip()


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a token"
        raise ConfigurationError(
            f"The identity token file {path} cannot be read: {reason}.",
            "Check the path, and that the platform writes the token there on every worker and triggerer.",
        ) from None


def _read_token(request: HTTPRequest, response: HTTPResponse, started: float) -> Token:
    """Read a token. The margins before its expiry are smaller for a short-lived one."""
    body = read_response(request, response, _TokenResponse)
    try:
        check_secret(body.access_token, "the access token")
    except ConfigurationError:
        reason = "the access token in it is empty or has characters that no token has"
        raise invalid_response_failure(request, reason) from None
    return Token.lasting(body.access_token.strip(), body.expires_in, started, refresh_early=REFRESH_EARLY)

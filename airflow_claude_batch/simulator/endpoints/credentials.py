"""Credentials: API keys, and the short-lived tokens of workload identity federation.

The signature of an identity token is not verified. Its claims are only read for their expiry.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Request
from airflow_claude_batch.simulator.ids import Ids

DEFAULT_WORKSPACE = "wrkspc_01Simulator"
ORGANIZATION = "3f0c2c1e-0000-4000-8000-000000000000"
OAUTH_BETA = "oauth-2025-04-20"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_PREFIX = "sk-ant-oat01-"  # noqa: S105  (what tokens start with, not a token)
_SCOPE = "workspace:developer"
_MAX_ASSERTION = 16 * 1024
_LEAST_LIFETIME = 60.0  # seconds, wif-reference

Keys = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationRule:
    """The identities that may exchange their token, and what they get. None accepts any identity.

    ::

        rule = FederationRule(service_account_id="svac_01", workspaces=("wrkspc_01",), token_seconds=120)
        simulator = Simulator(federation={"fdrl_01": rule})

    :param organization_id: the only accepted organization.
    :param service_account_id: the only accepted service account.
    :param workspaces: workspaces that a token may act in. With several, the exchange must name one.
    :param token_seconds: lifetime of a token. The API's minimum is 60, and tests may go below it.
    :param scope: with any scope but ``workspace:developer``, every call with the token gets a 403.
    """

    organization_id: str | None = None
    service_account_id: str | None = None
    workspaces: tuple[str, ...] = (DEFAULT_WORKSPACE,)
    token_seconds: float = 3600.0
    scope: str = _SCOPE


@dataclass(frozen=True, slots=True)
class _Token:
    workspace: str
    expires_at: datetime
    scope: str


class Credentials:
    """Checks credentials and issues tokens.

    :param keys: API key to workspace id, or to several ids (the caller must then name one in
        ``anthropic-workspace-id``). None: every key that starts with ``sk-`` acts in `DEFAULT_WORKSPACE`.
    :param federation: rule id to rule. None: every rule id issues tokens for the workspace that the call names.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        keys: Keys | None = None,
        federation: Mapping[str, FederationRule] | None = None,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._federation = federation
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def authorize(self, request: Request, operation: str, betas: frozenset[str]) -> str:
        """Return the workspace that the call acts in, see `workspace`."""
        return self.workspace(request.headers, betas)

    def workspace(self, headers: Mapping[str, str], betas: frozenset[str]) -> str:
        """Return the workspace that the call acts in.

        :raises APIError: 401 for an invalid credential, 400 or 403 for a workspace that it cannot act in.
        """
        key = headers.get("x-api-key")
        if key is not None:
            return self._choose_workspace(self._workspaces(key), headers)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise APIError(401, "API key is invalid.")
        bearer = bearer.strip()
        if bearer.startswith(_TOKEN_PREFIX):
            return self._choose_workspace((self._token_workspace(bearer, betas),), headers)
        return self._choose_workspace(self._workspaces(bearer), headers)

    def exchange(self, body: bytes) -> dict[str, Any]:
        """Exchange an identity token for an access token (``POST /v1/oauth/token``).

        :raises APIError: 400 when the call is malformed, otherwise a 401 without a reason.
        """
        fields = _token_request(body)
        rule = self._rule(fields)
        remaining = self._remaining_seconds(fields["assertion"])
        lifetime = min(rule.token_seconds, max(_LEAST_LIFETIME, 2 * remaining))
        workspace = _enabled_workspace(rule, fields.get("workspace_id"))
        token = self._ids.new(_TOKEN_PREFIX, length=40)
        expires_at = self._clock.now() + timedelta(seconds=lifetime)
        with self._lock:
            self._tokens[token] = _Token(workspace, expires_at, rule.scope)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(lifetime),
            "scope": rule.scope,
        }

    def _workspaces(self, key: str) -> Sequence[str]:
        if self._keys is None:
            known = key.startswith("sk-") and len(key) > 3 and not key.startswith(_TOKEN_PREFIX)
            found: str | Sequence[str] = DEFAULT_WORKSPACE if known else ()
        else:
            found = self._keys.get(key, ())
        if not found:
            raise APIError(401, "API key is invalid.")
        return (found,) if isinstance(found, str) else found

    def _token_workspace(self, bearer: str, betas: frozenset[str]) -> str:
        token = self._tokens.get(bearer)
        if token is None or self._clock.now() >= token.expires_at:
            raise APIError(401, "OAuth token has expired or is invalid. Please obtain a new token.")
        if OAUTH_BETA not in betas:
            raise APIError(401, "OAuth authentication is currently not supported.")
        if token.scope != _SCOPE:
            raise APIError(403, f"OAuth token does not meet scope requirement {_SCOPE}")
        return token.workspace

    @staticmethod
    def _choose_workspace(workspaces: Sequence[str], headers: Mapping[str, str]) -> str:
        named = headers.get("anthropic-workspace-id")
        if named is None and len(workspaces) > 1:
            message = "anthropic-workspace-id: header is required, the credential can act in several workspaces"
            raise APIError(400, message)
        if named is not None and named not in workspaces:
            raise APIError(403, f"The credential cannot act in workspace {named}.")
        return named or workspaces[0]

    def _rule(self, fields: dict[str, Any]) -> FederationRule:
        if self._federation is None:
            workspace = fields.get("workspace_id")
            named = workspace if workspace not in (None, "default") else DEFAULT_WORKSPACE
            return FederationRule(workspaces=(str(named),))
        rule = self._federation.get(fields["federation_rule_id"])
        if rule is None:
            raise _unexplained_401()
        for name in ("organization_id", "service_account_id"):
            if getattr(rule, name) not in (None, fields.get(name)):
                raise _unexplained_401()
        return rule

    def _remaining_seconds(self, assertion: str) -> float:
        """Return the seconds until the identity token expires, or an hour when it has no expiry."""
        expiry = _claims(assertion).get("exp")
        if not isinstance(expiry, int | float):
            return 3600.0
        remaining = expiry - self._clock.now().timestamp()
        if remaining <= 0:
            raise _unexplained_401()
        return float(remaining)


def _token_request(body: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise APIError(400, "The request body is not valid JSON.") from None
    if fields.get("grant_type") != _GRANT:
        raise APIError(400, f"grant_type: Input should be '{_GRANT}'")
    for name in ("assertion", "federation_rule_id", "organization_id"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise APIError(400, f"{name}: Field required")
    if len(fields["assertion"]) > _MAX_ASSERTION:
        raise APIError(400, "assertion: too long")
    return fields


def _enabled_workspace(rule: FederationRule, named: str | None) -> str:
    if named is None or named == "default":
        if len(rule.workspaces) > 1 and DEFAULT_WORKSPACE not in rule.workspaces:
            raise APIError(400, "workspace_id: Field required")
        return DEFAULT_WORKSPACE if DEFAULT_WORKSPACE in rule.workspaces else rule.workspaces[0]
    if named not in rule.workspaces:
        raise _unexplained_401()
    return named


def _claims(assertion: str) -> dict[str, Any]:
    parts = assertion.split(".")
    if len(parts) != 3:
        raise _unexplained_401()
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
        raise _unexplained_401() from None


def _unexplained_401() -> APIError:
    return APIError(401, "Authentication failed.")

"""Claude Platform on AWS: calls are signed with keys of AWS or carry an API key, and name their workspace."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_claude_batch.simulator.endpoints.aws_signature import SERVICE, AwsError, AwsKey, verify_signature
from airflow_claude_batch.simulator.endpoints.credentials import DEFAULT_WORKSPACE, Credentials
from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Request

ACCESS_KEY = "AKIASIMULATOR"
SECRET_KEY = "simulator-secret-key"  # noqa: S105  (opens nothing but a simulator)
REGION = "us-west-2"
ACCOUNT = "123456789012"

# The IAM action of each operation; claude-platform-on-aws-iam-actions, 2026-11.
_ACTIONS = {
    "create": "CreateBatchInference",
    "list": "ListBatchInferences",
    "retrieve": "GetBatchInference",
    "results": "GetBatchInference",
    "cancel": "CancelBatchInference",
    "delete": "DeleteBatchInference",
    "count_tokens": "CountTokens",
    "message": "CreateInference",
    "models": "ListModels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsPlatform:
    """The accounts and permissions of a simulated Claude Platform on AWS.

    ::

        keys = {"AKIA1": "secret", "ASIA2": AwsKey(secret="…", session_token="…", expires_at=…)}
        simulator = Simulator(platform=AwsPlatform(access_keys=keys))
        keys.clear()  # from now on no signature is accepted

    :param region: the only region for which signatures are accepted.
    :param access_keys: access key to secret, or to an `AwsKey`. It is read at every call.
    :param denied_actions: IAM actions that nobody may do, such as ``CreateBatchInference`` and ``CallWithBearerToken``.
    :param now: the time that signatures must have. Default: real time, because clients sign with theirs.
    """

    region: str = REGION
    access_keys: Mapping[str, AwsKey | str] = field(default_factory=lambda: {ACCESS_KEY: SECRET_KEY})
    denied_actions: Collection[str] = ()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class AwsCredentials(Credentials):
    """Checks signatures and API keys as AWS does.

    :param others: the arguments of `Credentials`. A signed call may act in every workspace of theirs.
    """

    def __init__(self, platform: AwsPlatform, **others: Any) -> None:
        super().__init__(**others)
        self._platform = platform

    def authorize(self, request: Request, operation: str, betas: frozenset[str]) -> str:
        """Return the workspace that the call acts in.

        :raises APIError: AWS refuses the signature or the action, or the API refuses the key or the workspace.
        """
        has_key = "x-api-key" in request.headers or request.headers.get("authorization", "").startswith("Bearer ")
        if not has_key:
            verify_signature(
                request, self._platform.access_keys, region=self._platform.region, now=self._platform.now()
            )
        named = request.headers.get("anthropic-workspace-id")
        for action in ("CallWithBearerToken", _ACTIONS[operation])[not has_key :]:
            self._check_permission(action, named)
        if not named:
            raise APIError(400, "anthropic-workspace-id: header is required")
        if has_key:
            return self.workspace(request.headers, betas)
        return self._choose_workspace(self._all_workspaces(), request.headers)

    def _check_permission(self, action: str, workspace: str | None) -> None:
        if action in self._platform.denied_actions:
            resource = f"arn:aws:{SERVICE}:{self._platform.region}:{ACCOUNT}:workspace/{workspace}"
            raise AwsError(
                403,
                "AccessDeniedException",
                f"User: arn:aws:sts::{ACCOUNT}:assumed-role/airflow/simulated is not authorized to perform: "
                f"{SERVICE}:{action} on resource: {resource} because no identity-based policy allows the "
                f"{SERVICE}:{action} action",
            )

    def _all_workspaces(self) -> list[str]:
        given = (self._keys or {"": DEFAULT_WORKSPACE}).values()
        return [name for names in given for name in ([names] if isinstance(names, str) else names)]

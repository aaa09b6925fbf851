"""Claude on Google Cloud: calls carry an access token of Google's, and their path names project and workspace."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from airflow_claude_batch.simulator.endpoints.credentials import DEFAULT_WORKSPACE, Credentials
from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Request, Response, json_response

PROJECT = "simulator-project"
_TOKEN_PREFIX = "ya29."  # noqa: S105  (what tokens of Google's start with, not a token)
_PATH = re.compile(
    r"/v1/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/workspaces/(?P<workspace>[^/]+)/invoke(?P<path>/.+)"
)
_WORKSPACE = "x-simulator-workspace"


class GoogleError(APIError):
    """Google's gateway refuses a call before it reaches the API. The form of its errors: https://google.aip.dev/193."""

    def response(self, request_id: str) -> Response:
        """Build the response in the form of Google's APIs."""
        error = {"code": self.status, "message": self.message, "status": self.kind}
        return json_response({"error": error}, status=self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class GooglePlatform:
    """The project and the access tokens of a simulated Claude on Google Cloud.

    ::

        tokens = ["ya29.first"]
        simulator = Simulator(platform=GooglePlatform(tokens=tokens))
        tokens[:] = ["ya29.second"]  # from now on the first is not accepted

    :param project: the only project.
    :param location: the only location.
    :param workspaces: the workspaces that the project has.
    :param tokens: the accepted tokens. It is read at every call. None: any that starts with ``ya29.``
    """

    project: str = PROJECT
    location: str = "global"
    workspaces: Collection[str] = (DEFAULT_WORKSPACE,)
    tokens: Collection[str] | None = None

    def path(self, workspace: str = DEFAULT_WORKSPACE) -> str:
        """Return the path of a workspace's base URL."""
        return f"/v1/projects/{self.project}/locations/{self.location}/workspaces/{workspace}/invoke"

    def inner(self, request: Request) -> Request:
        """Return the call as the API behind the gateway gets it. A path that is not the gateway's stays as it is."""
        found = _PATH.fullmatch(request.path)
        workspace = found["workspace"] if found and self._is_here(found) else ""
        path = found["path"] if found else request.path
        return replace(request, path=path, headers={**request.headers, _WORKSPACE: workspace})

    def inner_path(self, path: str) -> str:
        """Return a path as the API behind the gateway gets it."""
        return found["path"] if (found := _PATH.fullmatch(path)) else path

    def _is_here(self, found: re.Match[str]) -> bool:
        return (found["project"], found["location"]) == (self.project, self.location)


class GoogleCredentials(Credentials):
    """Checks access tokens, and the workspace in the path, as Google's gateway does.

    :param others: the arguments of `Credentials`.
    """

    def __init__(self, platform: GooglePlatform, **others: Any) -> None:
        super().__init__(**others)
        self._platform = platform

    def authorize(self, request: Request, operation: str, betas: frozenset[str]) -> str:
        """Return the workspace that the call acts in.

        :raises GoogleError: the token or the path is refused.
        """
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        accepted = self._platform.tokens
        if not (token.startswith(_TOKEN_PREFIX) if accepted is None else token in accepted):
            message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            raise GoogleError(401, message, kind="UNAUTHENTICATED")
        workspace = request.headers[_WORKSPACE]
        if workspace not in self._platform.workspaces:
            message = "Permission denied on the workspace (or it may not exist)."
            raise GoogleError(403, message, kind="PERMISSION_DENIED")
        return workspace

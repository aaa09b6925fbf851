"""Get access tokens of Google's with the library google-auth, which the extra ``google`` installs.

It is imported when a token is first needed. All functions here block, so they run in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch.api.evidence import Stage
from airflow_claude_batch.api.google_token import FetchedToken, token_request
from airflow_claude_batch.api.http import CallFailed, HTTPResponse
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.api.responses import error_response_failure, no_response_failure
from airflow_claude_batch.exceptions import AuthenticationError, ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import Request

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"  # SDK, lib/_extras/_google_auth.py
_CALL_SECONDS: Final = 10.0  # for the next bytes of one call, if google-auth names no time
_DEFAULT_LIFETIME: Final = 300.0  # seconds, of a token that does not say when it ends
_REFUSED: Final = (400, 401, 403)  # RFC 6749, section 5.2, and the metadata server

INSTALL_REMEDY: Final = "Install it on workers and triggerers: pip install 'airflow-claude-batch[google]'"
_WHERE: Final = (
    "On Google's machines they come from the metadata server. Elsewhere set GOOGLE_APPLICATION_CREDENTIALS to the path "
    "of a key or of a workload identity federation file, for workers and triggerers. Or name a Google connection in "
    "gcp_conn_id, or put a service account's key into keyfile_dict."
)


@dataclass(frozen=True, slots=True)
class MachineAccount:
    """Application default credentials. They are looked for at every fetch, so a new key file is seen."""

    description: str = "the machine (application default credentials)"

    def fetch(self, deadline: float) -> FetchedToken:
        request = _request(deadline)
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError

        try:
            credentials, _ = google.auth.default(scopes=[SCOPE], request=request)
        except DefaultCredentialsError as error:
            raise ConfigurationError(
                f"No Google credentials can be used on this machine: {shorten(str(error), 200)}", _WHERE
            ) from None
        return _refreshed(credentials, request, self.description)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account whose key the connection holds.

    :param info: the content of the key's JSON file.
    """

    info: Mapping[str, Any] = field(repr=False, hash=False)

    @property
    def description(self) -> str:
        return f"the service account {shorten(str(self.info.get('client_email')), 100)}"

    def fetch(self, deadline: float) -> FetchedToken:
        request = _request(deadline)
        from google.oauth2.service_account import Credentials

        try:
            credentials = Credentials.from_service_account_info(self.info, scopes=[SCOPE])
        except ValueError as error:
            raise ConfigurationError(
                f"The service account's key (keyfile_dict) cannot be used: {_reason(error)}.",
                "Copy the whole JSON file of the key again.",
            ) from None
        return _refreshed(credentials, request, self.description)


@dataclass(frozen=True, slots=True)
class GivenCredentials:
    """Credentials that another part makes, such as the hook of Airflow's Google provider.

    :param description: names where they come from.
    :param fingerprint: differs if they are others, for example after a rotation.
    :param load: makes them. It is called at every fetch, in a thread.
    """

    description: str
    fingerprint: str = field(repr=False)
    load: Callable[[], Credentials] = field(repr=False, compare=False)

    def fetch(self, deadline: float) -> FetchedToken:
        request = _request(deadline)
        try:
            credentials = self.load()
        except Exception as error:  # of Airflow's hook, and of whatever it reads keys with
            raise ConfigurationError(
                f"The Google credentials of {self.description} cannot be used: {_reason(error)}.",
                "Check its key, its files on workers and triggerers, and its other fields.",
            ) from None
        return _refreshed(credentials, request, self.description)


def _request(deadline: float) -> Request:
    """Return google-auth's HTTP client. It begins no call after the deadline, and keeps the last error response.

    :raises ConfigurationError: the library is not installed.
    """
    try:
        from google.auth.exceptions import TransportError
        from google.auth.transport.requests import Request
    except ImportError:
        raise ConfigurationError(
            "Google's credentials need the library google-auth with requests.", INSTALL_REMEDY
        ) from None

    class LimitedRequest(Request):
        refusal: tuple[str, HTTPResponse] | None = None

        def __call__(  # the parameters of google-auth's interface
            self,
            url: str,
            method: str = "GET",
            body: bytes | None = None,
            headers: Mapping[str, str] | None = None,
            timeout: float | None = None,
            **options: Any,
        ) -> Any:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TransportError("no time is left for an access token")
            seconds = min(timeout or _CALL_SECONDS, left)
            response = super().__call__(url, method, body, headers, seconds, **options)  # type: ignore[no-untyped-call]  # theirs
            if response.status >= 400:
                self.refusal = url, HTTPResponse(response.status, {}, response.data[:4096])
            return response

    return LimitedRequest()


def _refreshed(credentials: Credentials, request: Any, description: str) -> FetchedToken:
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials.refresh(request)
    except GoogleAuthError as error:
        raise _failure(error, request, f"Check the Google credentials: those of {description}.") from None
    return FetchedToken(str(credentials.token or ""), _seconds_left(credentials))


def _failure(error: Exception, request: Any, remedy: str) -> CallFailed:
    """Build the failure for an error of google-auth: an error response, or none."""
    if request.refusal is None:
        described = token_request("https://oauth2.googleapis.com", remedy)
        return no_response_failure(described, Stage.CONNECTING, _reason(error))
    url, response = request.refusal
    failed = error_response_failure(token_request(url, remedy), response)
    return _refusal(failed, response, remedy) if response.status_code in _REFUSED else failed


def _refusal(failed: CallFailed, response: HTTPResponse, remedy: str) -> CallFailed:
    """Return the failure as one of the credential, with the remedy for it. OAuth's status for that is 400."""
    lines = [line for line in str(failed.error).split("\n") if line != remedy]
    error = AuthenticationError(*lines, remedy, status_code=response.status_code, may_have_been_accepted=False)
    return CallFailed(failed.failure, error, failed.effect)


def _reason(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}".rstrip("."), 200)


def _seconds_left(credentials: Credentials) -> float:
    expiry: datetime | None = credentials.expiry  # in UTC, without a time zone
    return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() if expiry else _DEFAULT_LIFETIME

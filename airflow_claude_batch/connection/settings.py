"""From what an Airflow connection holds to a client's configuration: no Airflow, no network, no clock.

Connections of type ``claude`` and of type ``anthropic`` (Apache's provider) read alike.

A credential of the environment never goes to a host that a connection names: whoever may edit connections could
otherwise have the deployment's own key sent anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from airflow_claude_batch.api.base_url import check_base_url
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey, BearerToken, Credentials, WorkloadIdentity, check_secret
from airflow_claude_batch.api.limits import DEFAULT_BASE_URL
from airflow_claude_batch.connection.extra import read_extra
from airflow_claude_batch.exceptions import ConfigurationError

_PASSED_ON: Final = (
    "api_version",
    "betas",
    "user_profile_id",
    "proxy",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "max_retries",
)
_NO_VARIABLE: Final = (
    "Or set, in the environment of workers and triggerers: ANTHROPIC_API_KEY; ANTHROPIC_AUTH_TOKEN; or "
    "ANTHROPIC_FEDERATION_RULE_ID with ANTHROPIC_ORGANIZATION_ID and ANTHROPIC_IDENTITY_TOKEN_FILE. Profiles of the "
    "vendor's SDK are not read."
)
_NO_CREDENTIAL: Final = (
    "it holds no credential. Put an API key into password; or auth_token, or federation_rule_id with organization_id "
    f"and identity_token_file, into extra. {_NO_VARIABLE}"
)
_SHORTEST_SECRET: Final = 8  # characters of a header's value; masking "true" would blacken every log


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionValues:
    """What an Airflow connection holds, as plain values: read in one thread, used in another.

    :param extra: the JSON text.
    :param exists: false when there is no such connection, so that only the environment can say anything.
    """

    conn_id: str
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: str | None = field(default=None, repr=False)
    exists: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """A connection, understood.

    :param config: what a client is made from.
    :param model: the connection's default model, None if it names none.
    :param remarks: what a person should read in the log, such as keys that nothing here understands.
    :param secrets: values to mask in logs.
    """

    config: ClientConfig
    model: str | None
    remarks: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EnvironmentApiKey(ApiKey):
    """An API key that the deployment's environment holds."""

    remedy: ClassVar[str] = "Check ANTHROPIC_API_KEY in the environment of Airflow's workers and triggerers."


@dataclass(frozen=True, slots=True)
class EnvironmentToken(BearerToken):
    """A ready token that the deployment's environment holds."""

    remedy: ClassVar[str] = "Check ANTHROPIC_AUTH_TOKEN in the environment of Airflow's workers and triggerers."


def config_from_connection(values: ConnectionValues, environ: Mapping[str, str]) -> ConnectionSettings:
    """Read a connection; what it leaves open comes from the vendor's environment variables, as in its SDK.

    :param environ: ``ANTHROPIC_BASE_URL``; and for the credential the first that is there of
        ``ANTHROPIC_API_KEY``, ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_FEDERATION_RULE_ID`` with
        ``ANTHROPIC_ORGANIZATION_ID`` and ``ANTHROPIC_IDENTITY_TOKEN_FILE`` or ``ANTHROPIC_IDENTITY_TOKEN``.
    :raises ConfigurationError: names the connection, the field, and what to do.
    """
    try:
        extra, unknown = read_extra(values.extra)
        held = replace(
            values,
            host=extra.pop("host", values.host),
            password=(extra.pop("password", values.password) or "").strip() or None,
        )
        return _Reading(held, extra, _nonempty(environ)).settings(unknown)
    except ConfigurationError as error:
        whose = f"connection {values.conn_id!r}:" if values.exists else f"{no_connection(values.conn_id)}."
        raise ConfigurationError(f"{whose} {error}") from None


def no_connection(conn_id: str) -> str:
    """Say that there is no such connection, and how to make it."""
    return (
        f"there is no connection {conn_id!r}, or Airflow could not look it up (it says the same of both). "
        f"Create it: airflow connections add {conn_id} --conn-type claude --conn-password <API key>"
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    values: ConnectionValues
    extra: Mapping[str, Any]
    environ: Mapping[str, str]

    def settings(self, unknown: tuple[str, ...]) -> ConnectionSettings:
        base_url = self._base_url()
        credentials = self._credentials(base_url)
        proxy_password = self._proxy_password()
        config = ClientConfig(
            base_url=base_url,
            credentials=credentials,
            workspace_id=None if credentials.names_workspace else self.extra.get("workspace_id"),
            extra_headers=self.extra.get("headers", {}),
            verify=self._verify(),
            **{name: self.extra[name] for name in _PASSED_ON if name in self.extra},
        )
        return ConnectionSettings(
            config=config,
            model=self.extra.get("model"),
            remarks=tuple(self._remarks(unknown)),
            secrets=tuple(self._secrets(proxy_password)),
        )

    def _base_url(self) -> str:
        named = bool((self.values.host or "").strip())
        place = "host" if named else "ANTHROPIC_BASE_URL"
        try:
            url = check_base_url(_host_url(self.values) if named else self.environ.get(place, DEFAULT_BASE_URL))
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from None
        if urlsplit(url).path.endswith("/v1"):
            raise ConfigurationError(f"{place} ends with /v1: remove that, every call's own path begins with it")
        return url

    def _credentials(self, base_url: str) -> Credentials:
        password, extra = self.values.password, self.extra
        fields = {"password": password, **{name: extra.get(name) for name in ("auth_token", "federation_rule_id")}}
        held = [name for name, value in fields.items() if value]
        if len(held) > 1:
            raise ConfigurationError(f"it holds more than one credential ({', '.join(held)}): keep one")
        if extra.get("auth") == "x-api-key" and held not in ([], ["password"]):
            raise ConfigurationError("auth is x-api-key, but no API key is in password")
        if password:
            return ApiKey(password, self._key_header())
        if extra.get("auth_token"):
            return BearerToken(extra["auth_token"])
        trusted = base_url in (DEFAULT_BASE_URL, self.environ.get("ANTHROPIC_BASE_URL", "").rstrip("/"))
        if held:
            return _identity(extra, self.environ if trusted else {}, base_url)
        if not trusted:
            raise ConfigurationError(
                "it names a host but holds no credential, and the environment's is not sent to a host that a "
                "connection names. Put the key into password (any text, if the host wants none); or leave host "
                "empty and set ANTHROPIC_BASE_URL in the environment"
            )
        return self._environment_credentials(base_url)

    def _environment_credentials(self, base_url: str) -> Credentials:
        if key := self.environ.get("ANTHROPIC_API_KEY"):
            check_secret(key, "the environment's ANTHROPIC_API_KEY")
            return EnvironmentApiKey(key, self._key_header())
        if token := self.environ.get("ANTHROPIC_AUTH_TOKEN"):
            check_secret(token, "the environment's ANTHROPIC_AUTH_TOKEN")
            return EnvironmentToken(token)
        if self.environ.get("ANTHROPIC_FEDERATION_RULE_ID"):
            return _identity(self.extra, self.environ, base_url)
        raise ConfigurationError(_NO_CREDENTIAL if self.values.exists else _NO_VARIABLE)

    def _key_header(self) -> Literal["authorization", "x-api-key"]:
        return "x-api-key" if self.extra.get("auth") == "x-api-key" else "authorization"

    def _verify(self) -> bool | str:
        verify: bool = self.extra.get("verify", True)
        ca_file: str | None = self.extra.get("ca_file")
        if ca_file and not verify:
            raise ConfigurationError("verify is false although ca_file says what to trust: remove one of them")
        return ca_file or verify

    def _remarks(self, unknown: tuple[str, ...]) -> Iterator[str]:
        if unknown:
            yield f"nothing reads these keys of its extra: {', '.join(unknown)}"
        if self.extra.get("verify") is False:
            yield "verify is false: whoever is on the way can read the credential"

    def _proxy_password(self) -> str | None:
        proxy: str = self.extra.get("proxy", "")
        try:
            return urlsplit(proxy).password
        except ValueError:
            raise ConfigurationError("proxy in its extra is not a URL like http://host:port") from None

    def _secrets(self, proxy_password: str | None) -> Iterator[str]:
        named = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_IDENTITY_TOKEN")
        candidates = [
            self.values.password,
            self.extra.get("auth_token"),
            self.extra.get("identity_token"),
            proxy_password,
            *(text for text in self.extra.get("headers", {}).values() if len(text) >= _SHORTEST_SECRET),
            *(self.environ.get(name) for name in named),
        ]
        return (secret for secret in candidates if secret)


def _host_url(values: ConnectionValues) -> str:
    """Join host, port and schema, whichever way the connection was written: a form, JSON, a URI."""
    if values.schema not in (None, "", "http", "https"):
        raise ConfigurationError("write the whole base URL here and leave schema empty")
    host = (values.host or "").strip()
    parts = _split(host if "://" in host else f"{values.schema or 'https'}://{host}")
    if values.port and parts.port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{values.port}")
    return urlunsplit(parts)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what checks it)
    except ValueError:
        raise ConfigurationError("it is not a URL like https://api.anthropic.com") from None
    return parts


def _identity(extra: Mapping[str, Any], environ: Mapping[str, str], base_url: str) -> WorkloadIdentity:
    """Build a workload identity, each part from the connection, or else from the environment."""

    def part(name: str) -> str | None:
        return extra.get(name) or environ.get(f"ANTHROPIC_{name.upper()}")

    token, file = extra.get("identity_token"), extra.get("identity_token_file")
    if not (token or file):
        # The file first, as the SDK does: the platform renews it.
        file = part("identity_token_file")
        token = None if file else part("identity_token")
    rule, organization = part("federation_rule_id") or "", part("organization_id") or ""
    needed = {"federation_rule_id": rule, "organization_id": organization, "identity_token_file": file or token}
    missing = [name for name, value in needed.items() if not value]
    if missing and not extra.get("federation_rule_id"):
        names = " and ".join(f"ANTHROPIC_{name.upper()}" for name in missing)
        raise ConfigurationError(
            f"the environment's workload identity lacks {names}: set it for workers and triggerers"
        )
    if missing:
        raise ConfigurationError(f"its workload identity lacks {' and '.join(missing)}: add it to extra")
    return WorkloadIdentity(
        federation_rule_id=rule,
        organization_id=organization,
        service_account_id=part("service_account_id"),
        workspace_id=part("workspace_id"),
        identity_token=token,
        identity_token_file=file,
        base_url=base_url,
    )


def _nonempty(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in environ.items() if text.strip()}

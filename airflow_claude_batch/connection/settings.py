"""Read an Airflow connection into a client's configuration. No Airflow, no network and no clock here.

Connections of type ``claude`` and of type ``anthropic`` (Apache's provider) are read alike.

People who may edit connections must not reach the deployment's own secrets. So a connection that chooses where a call
goes (host, proxy) or whom it trusts (verify, ca_file) needs a credential of its own. The environment's credential is
not used for it, and no token file of the worker is read for it, unless the deployment allows that. The same holds for
headers where the deployment has a gateway: many gateways take the destination from a header.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from airflow_claude_batch.api.base_url import check_base_url, host_in, host_of, is_loopback, is_plain_http
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey, BearerToken, Credentials, check_secret
from airflow_claude_batch.api.limits import DEFAULT_BASE_URL
from airflow_claude_batch.api.other_platforms import no_batches_error, platform_at
from airflow_claude_batch.api.redaction import SHORTEST_SECRET
from airflow_claude_batch.api.workload_identity import WorkloadIdentity
from airflow_claude_batch.connection.address import check_host
from airflow_claude_batch.connection.aws import (
    OpenAwsConnection,
    environment_credential,
    is_machines,
    no_aws_connections,
    own_credential,
)
from airflow_claude_batch.connection.choices import (
    Choice,
    chosen_by_connection,
    fields_of,
    needs_own_credential,
    only_credential,
    settings_of,
)
from airflow_claude_batch.connection.connection_type import check_type, type_hint, type_warnings
from airflow_claude_batch.connection.extra import describe_unknown, read_extra
from airflow_claude_batch.connection.google import (
    GoogleConnection,
    OpenGoogleConnection,
    google_credentials,
    no_google_connections,
)
from airflow_claude_batch.connection.misplaced import check_extra, check_fields, check_own_key, looks_like_key
from airflow_claude_batch.connection.platform import Platform, read_platform
from airflow_claude_batch.exceptions import ConfigurationError

# Fields of the extra that the client's configuration takes under the same name.
_CONFIG_FIELDS: Final = (
    "api_version",
    "betas",
    "user_profile_id",
    "proxy",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "max_retries",
    "max_batch_bytes",
    "max_batch_requests",
    "allow_http",
    "allow_unknown_parameters",
)
# Fields that only one platform reads. Connections of Apache's provider may have project_id without one.
_FIELDS_OF_PLATFORMS: Final = {
    "aws_conn_id": "aws",
    "gcp_conn_id": "google",
    "keyfile_dict": "google",
    "location": "google",
}
_VARIABLES: Final = (
    "ANTHROPIC_API_KEY; ANTHROPIC_AUTH_TOKEN; or ANTHROPIC_FEDERATION_RULE_ID with ANTHROPIC_ORGANIZATION_ID and "
    "ANTHROPIC_IDENTITY_TOKEN_FILE. Profiles of Anthropic's SDK are not read."
)
_OR_SET: Final = f"Or set, in the environment of workers and triggerers: {_VARIABLES}"
# A sensor reads the connection too, and then waits for a batch that runs and is billed.
_NOTHING_SENT: Final = "Nothing was sent now. Batches that were sent before are not affected."
_NO_CREDENTIAL: Final = "it holds no credential."
_ADD_CREDENTIAL: Final = (
    "Put an API key into password; or auth_token, or federation_rule_id with organization_id and identity_token_file, "
    f"into extra. {_OR_SET}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionValues:
    """Fields of an Airflow connection. They are read in one thread and used in another.

    :param extra: the JSON text.
    :param exists: false if there is no such connection. Then only the environment is read.
    """

    conn_id: str
    conn_type: str | None = None
    login: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: str | None = field(default=None, repr=False)
    exists: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """The settings that a connection holds.

    :param config: the configuration of a client.
    :param model: the connection's default model, None if it names none.
    :param warnings: sentences for the log, for example about keys of the extra that nothing reads.
    :param notes: sentences for the log about what was assumed.
    :param secrets: the values to mask in logs.
    """

    config: ClientConfig
    model: str | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EnvironmentApiKey(ApiKey):
    """An API key from the deployment's environment."""

    remedy: ClassVar[str] = "Check ANTHROPIC_API_KEY in the environment of Airflow's workers and triggerers."


@dataclass(frozen=True, slots=True)
class EnvironmentToken(BearerToken):
    """An access token from the deployment's environment."""

    remedy: ClassVar[str] = "Check ANTHROPIC_AUTH_TOKEN in the environment of Airflow's workers and triggerers."


def config_from_connection(
    values: ConnectionValues,
    environ: Mapping[str, str],
    *,
    allow_token_files: bool = False,
    open_aws_connection: OpenAwsConnection = no_aws_connections,
    open_google_connection: OpenGoogleConnection = no_google_connections,
) -> ConnectionSettings:
    """Read a connection. Whatever it does not set comes from the environment variables that Anthropic's SDK reads.

    :param environ: the base URL is ``ANTHROPIC_BASE_URL``. The credential is the first that is set of
        ``ANTHROPIC_API_KEY``, ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_FEDERATION_RULE_ID`` with
        ``ANTHROPIC_ORGANIZATION_ID`` and ``ANTHROPIC_IDENTITY_TOKEN_FILE`` or ``ANTHROPIC_IDENTITY_TOKEN``.
    :param allow_token_files: the deployment's consent: a connection may name an identity token file even if it chooses
        host, proxy or certificates.
    :param open_aws_connection: reads the connection that ``aws_conn_id`` names.
    :param open_google_connection: reads the connection that ``gcp_conn_id`` names.
    :raises ConfigurationError: the connection cannot be used. The first line names the connection and the field.
    """
    try:
        check_fields(values.login, values.host, values.port, values.schema, has_password=bool(values.password))
        check_extra(values.extra, has_password=bool(values.password))
        extra, unknown = read_extra(values.extra)
        merged = replace(
            values,
            host=extra.pop("host", values.host),
            password=(extra.pop("password", values.password) or "").strip() or None,
        )
        has_own_key = any(map(looks_like_key, (merged.password, extra.get("auth_token"))))
        check_type(values.conn_type, has_own_key=has_own_key)
        given = _nonempty(environ)
        google = _google_connection(extra, open_google_connection)
        key = extra.get("keyfile_dict", {})
        project = (google and google.project) or key.get("project_id")
        platform = read_platform(extra, given, has_host=bool((merged.host or "").strip()), project=project)
        reader = _Reader(merged, extra, given, allow_token_files, platform, open_aws_connection, google)
        return reader.settings(unknown)
    except ConfigurationError as error:
        raise _about_connection(values, error) from None


def no_connection_error(conn_id: str, *remedies: str) -> ConfigurationError:
    """Build the error for a connection that does not exist.

    :param remedies: lines to add to the remedy.
    """
    return ConfigurationError(
        f"There is no connection {conn_id!r}, or Airflow could not look it up (Airflow reports both in the same way).",
        _NOTHING_SENT,
        f"Create it: airflow connections add {conn_id} --conn-type claude --conn-password <API key>",
        *remedies,
    )


def _about_connection(values: ConnectionValues, error: ConfigurationError) -> ConfigurationError:
    first, *others = str(error).split("\n")
    if values.exists:
        hint = () if "of type" in first else type_hint(values.conn_type)
        return ConfigurationError(f"Connection {values.conn_id!r}: {_inner(first)}", _NOTHING_SENT, *others, *hint)
    if first != _NO_CREDENTIAL:
        others = [first[0].upper() + first[1:], *others]
    return no_connection_error(values.conn_id, *others)


def _inner(sentence: str) -> str:
    """Write a sentence as it reads after a colon. Names such as ANTHROPIC_BASE_URL stay as they are."""
    return sentence if sentence[:2].isupper() else sentence[0].lower() + sentence[1:]


@dataclass(frozen=True, slots=True)
class _Reader:
    values: ConnectionValues
    extra: Mapping[str, Any]
    environ: Mapping[str, str]
    allow_token_files: bool
    platform: Platform
    open_aws_connection: OpenAwsConnection
    google_connection: GoogleConnection | None

    def settings(self, unknown: tuple[str, ...]) -> ConnectionSettings:
        base_url = self._base_url()
        credentials = self._credentials(base_url)
        proxy_password = self._proxy_password()
        config = ClientConfig(
            base_url=base_url,
            credentials=credentials,
            platform=self.platform.name,
            region=self.platform.region,
            workspace_id=None if credentials.names_workspace else self.platform.workspace_id,
            extra_headers=self.extra.get("headers", {}),
            verify=self._verify(),
            **{name: self.extra[name] for name in _CONFIG_FIELDS if name in self.extra},
        )
        return ConnectionSettings(
            config=config,
            model=self.extra.get("model"),
            warnings=tuple(self._warnings(base_url, unknown)),
            notes=tuple(self._notes(base_url)),
            secrets=tuple(self._secrets(proxy_password)),
        )

    def _base_url(self) -> str:
        has_host = bool((self.values.host or "").strip())
        source = "host" if has_host else self.platform.url_variable
        try:
            url = _host_url(self.values) if has_host else self.environ.get(source, self.platform.default_url)
            url = check_base_url(url, allow_http=self.extra.get("allow_http", False))
        except ConfigurationError as error:
            first, *others = str(error).split("\n")
            raise ConfigurationError(f"{source}: {_inner(first)}", *others) from None
        if without := platform_at(host_in(url) or ""):
            raise no_batches_error(f"{source}: it is a host of {without}", without)
        if urlsplit(url).path.endswith("/v1"):
            raise ConfigurationError(f"{source}: the URL ends with /v1.", "Remove /v1: the path of every call has it.")
        return url

    def _credentials(self, base_url: str) -> Credentials:
        if self.platform.region is not None:
            return self._aws_credentials(base_url, self.platform.region)
        if self.platform.name == "google":
            named = self.google_connection
            return google_credentials(self.extra, named, self.values.password, self._chosen(base_url))
        password, extra = self.values.password, self.extra
        fields = {"password": password, **{name: extra.get(name) for name in ("auth_token", "federation_rule_id")}}
        present = only_credential(fields, extra.get("auth"))
        if password:
            if host_in(base_url) == host_in(DEFAULT_BASE_URL):
                check_own_key(password)
            return ApiKey(password, self._key_header())
        if extra.get("auth_token"):
            return BearerToken(extra["auth_token"])
        chosen = self._chosen(base_url)
        if present:
            self._check_token_file(chosen)
            return _identity(extra, {} if chosen else self.environ, base_url, chosen)
        if chosen:
            raise ConfigurationError(f"it {chosen[0].choice} but holds no credential.", *needs_own_credential(chosen))
        return self._environment_credentials(base_url)

    def _aws_credentials(self, base_url: str, region: str) -> Credentials:
        header = self._key_header()
        own = own_credential(
            self.values.login, self.values.password, self.extra, header, self.open_aws_connection, region
        )
        chosen = self._chosen(base_url)
        if own is not None and not (chosen and is_machines(own)):
            return own
        if chosen:
            what, remedy = needs_own_credential(chosen)
            raise ConfigurationError(
                f"it {chosen[0].choice} but holds no credential.",
                what,
                f"Name a connection with keys or a role in aws_conn_id. {remedy}",
            )
        return environment_credential(self.environ, header, region)

    def _chosen(self, base_url: str) -> tuple[Choice, ...]:
        return tuple(chosen_by_connection(base_url, self.extra, self.environ, self.platform))

    def _check_token_file(self, chosen: Sequence[Choice]) -> None:
        """Raise if a file that the connection names could be read by whoever edits connections.

        :raises ConfigurationError: names what the connection chooses, and the remedies.
        """
        if chosen and self.extra.get("identity_token_file") and not self.allow_token_files:
            raise ConfigurationError(
                f"it {chosen[0].choice}, so its identity_token_file is not read.",
                "Otherwise whoever may edit connections could have any file of a worker sent away.",
                f"Remove {fields_of(chosen)}{settings_of(chosen)}. Or set [claude_batch] "
                "allow_connection_token_files = True, if whoever may edit connections may read the workers' files.",
            )

    def _environment_credentials(self, base_url: str) -> Credentials:
        if key := self.environ.get("ANTHROPIC_API_KEY"):
            check_secret(key, "the environment's ANTHROPIC_API_KEY")
            return EnvironmentApiKey(key, self._key_header())
        if token := self.environ.get("ANTHROPIC_AUTH_TOKEN"):
            check_secret(token, "the environment's ANTHROPIC_AUTH_TOKEN")
            return EnvironmentToken(token)
        if self.environ.get("ANTHROPIC_FEDERATION_RULE_ID"):
            return _identity(self.extra, self.environ, base_url)
        raise ConfigurationError(_NO_CREDENTIAL, _ADD_CREDENTIAL if self.values.exists else _OR_SET)

    def _key_header(self) -> Literal["authorization", "x-api-key"]:
        return "x-api-key" if self.extra.get("auth") == "x-api-key" else "authorization"

    def _verify(self) -> bool | str:
        verify: bool = self.extra.get("verify", True)
        ca_file: str | None = self.extra.get("ca_file")
        if ca_file and not verify:
            raise ConfigurationError("verify is false, but ca_file names certificates to trust.", "Remove one of them.")
        return ca_file or verify

    def _warnings(self, base_url: str, unknown: tuple[str, ...]) -> Iterator[str]:
        yield from type_warnings(self.values.conn_type)
        if unknown:
            yield f"nothing reads these keys of its extra: {describe_unknown(unknown)}"
        if (self.values.login or "").strip():
            yield "nothing reads its login. An API key belongs into password"
        for name, platform in _FIELDS_OF_PLATFORMS.items():
            if self.extra.get(name) and self.platform.name != platform:
                yield f"nothing reads its {name}, because platform is not {platform}"
        if is_plain_http(base_url):
            yield f"allow_http is true, so the credential and all requests go to {host_of(base_url)} unencrypted"
        elif self.extra.get("allow_http") and urlsplit(base_url).scheme == "https":
            yield f"allow_http changes nothing, because {base_url} is https. If you mean http, write http:// into host"
        if self.extra.get("verify") is False:
            yield "verify is false, so a server on the way could read the credential"

    def _notes(self, base_url: str) -> Iterator[str]:
        """Yield what was assumed about the address."""
        host = (self.values.host or "").strip()
        if host and "://" not in host and not self.values.schema:
            http = f" If it speaks http, write http://{host_of(base_url)}." if _is_here(base_url) else ""
            yield f"its host names no scheme, so https was assumed: {base_url}.{http}"

    def _proxy_password(self) -> str | None:
        proxy: str = self.extra.get("proxy", "")
        try:
            return urlsplit(proxy).password
        except ValueError:
            raise ConfigurationError(
                "proxy in its extra is not a URL.", "Set a URL like http://user:password@host:port."
            ) from None

    def _secrets(self, proxy_password: str | None) -> Iterator[str]:
        named = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_IDENTITY_TOKEN", "ANTHROPIC_AWS_API_KEY")
        candidates = [
            self.values.password,
            self.values.login if looks_like_key(self.values.login) else None,
            self.extra.get("auth_token"),
            self.extra.get("identity_token"),
            self.extra.get("keyfile_dict", {}).get("private_key"),
            proxy_password,
            *(text for text in self.extra.get("headers", {}).values() if len(text) >= SHORTEST_SECRET),
            *(self.environ.get(name) for name in named),
        ]
        return (secret for secret in candidates if isinstance(secret, str) and secret)


def _google_connection(extra: Mapping[str, Any], open_connection: OpenGoogleConnection) -> GoogleConnection | None:
    gcp_conn_id = extra.get("gcp_conn_id")
    return open_connection(gcp_conn_id) if gcp_conn_id and extra.get("platform") == "google" else None


def _host_url(values: ConnectionValues) -> str:
    """Join host, port and schema, as a form, JSON or a URI writes them. Port 0 means none: Airflow 3.3 sends it."""
    if values.schema not in (None, "", "http", "https"):
        raise ConfigurationError(
            "schema is neither http nor https.", "Write the whole URL into host, and leave schema empty."
        )
    host = (values.host or "").strip()
    check_host(host)
    parts = _split(host if "://" in host else f"{values.schema or 'https'}://{host}")
    if parts.port == 0:
        parts = parts._replace(netloc=parts.netloc.rpartition(":")[0])
    if values.port and parts.port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{values.port}")
    return urlunsplit(parts)


def _is_here(base_url: str) -> bool:
    return is_loopback(urlsplit(base_url).hostname or "")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what checks it)
    except ValueError:
        raise ConfigurationError("it is not a URL.", "Set a URL like https://api.anthropic.com.") from None
    return parts


def _identity(
    extra: Mapping[str, Any], environ: Mapping[str, str], base_url: str, chosen: Sequence[Choice] = ()
) -> WorkloadIdentity:
    """Build a workload identity. Each value comes from the connection, or else from the environment.

    :param chosen: why the environment's values are not used, if they are not.
    """

    def value_of(name: str) -> str | None:
        return extra.get(name) or environ.get(f"ANTHROPIC_{name.upper()}")

    token, file = extra.get("identity_token"), extra.get("identity_token_file")
    if not (token or file):
        # The file first, as in the SDK: the platform renews it.
        file = value_of("identity_token_file")
        token = None if file else value_of("identity_token")
    rule, organization = value_of("federation_rule_id") or "", value_of("organization_id") or ""
    needed = {"federation_rule_id": rule, "organization_id": organization, "identity_token_file": file or token}
    missing = [name for name, value in needed.items() if not value]
    if missing and not extra.get("federation_rule_id"):
        names = " and ".join(f"ANTHROPIC_{name.upper()}" for name in missing)
        raise ConfigurationError(
            f"the environment's workload identity lacks {names}.", "Set them for all workers and triggerers."
        )
    if missing:
        raise ConfigurationError(
            f"its workload identity lacks {' and '.join(missing)}.",
            *(f"The environment's are not used for a connection that {each.choice}." for each in chosen[:1]),
            "Add them to extra.",
        )
    return WorkloadIdentity(
        federation_rule_id=rule,
        organization_id=organization,
        service_account_id=value_of("service_account_id"),
        workspace_id=value_of("workspace_id"),
        identity_token=token,
        identity_token_file=file,
        base_url=base_url,
        allow_http=extra.get("allow_http", False),
    )


def _nonempty(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in environ.items() if text.strip()}

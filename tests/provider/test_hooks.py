from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow_fixtures import KEY
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION, BaseOperator, BaseTrigger, Context, TriggerEvent
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.connection.settings import EnvironmentApiKey
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.hooks import DEFAULT_MODEL, ClaudeHook
from airflow_claude_batch.provider_info import CONNECTION_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_claude_batch.simulator import Fault, Simulator

Connect = Callable[..., ClaudeHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make a connection out of its fields, and a hook of it."""

    def make(*, extra: dict[str, Any] | None = None, **fields: Any) -> ClaudeHook:
        described = {"conn_type": "claude", "extra": extra or {}, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps(described))
        return ClaudeHook("mine")

    return make


# ------------------------------------------------------------------ reading the connection


def test_hook_reads_the_connection(connect: Connect) -> None:
    config = connect(password=KEY, host="gw.corp", extra={"read_timeout": 5}).get_config()
    assert (config.base_url, config.credentials, config.read_timeout) == ("https://gw.corp", ApiKey(KEY), 5.0)


def test_connection_as_a_uri_reads_like_one_as_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", f"claude://:{KEY}@gw.corp:8443?read_timeout=5&betas=one%2Ctwo")
    config = ClaudeHook("mine").get_config()
    assert (config.base_url, config.credentials) == ("https://gw.corp:8443", ApiKey(KEY))
    assert (config.read_timeout, config.betas) == (5.0, ("one", "two"))


def test_connection_of_apaches_provider_reads_alike(connect: Connect) -> None:
    hook = connect(conn_type="anthropic", password=KEY, extra={"platform": "anthropic", "model": "claude-haiku-5-5"})
    assert hook.get_config().credentials == ApiKey(KEY)
    assert hook.get_default_model() == "claude-haiku-5-5"


def test_event_loop_reads_the_same_configuration(connect: Connect) -> None:
    hook = connect(password=KEY)
    assert asyncio.run(hook.get_async_config()) == connect(password=KEY).get_config()


def test_deployment_may_allow_token_files_of_connections(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = {"federation_rule_id": "fdrl_1", "organization_id": "org-1", "identity_token_file": "/run/token"}
    with pytest.raises(ConfigurationError, match="allow_connection_token_files"):
        connect(extra=identity, host="gw.corp").get_config()

    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__ALLOW_CONNECTION_TOKEN_FILES", "True")
    assert connect(extra=identity, host="gw.corp").get_config().base_url == "https://gw.corp"


def test_hook_reads_its_connection_once(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(password=KEY)
    config = hook.get_config()
    monkeypatch.delenv("AIRFLOW_CONN_MINE")
    assert hook.get_config() is config
    assert asyncio.run(hook.get_async_config()) is config


def test_model_is_the_packages_when_the_connection_names_none(connect: Connect) -> None:
    assert connect(password=KEY).get_default_model() == DEFAULT_MODEL


def test_missing_connection_says_how_to_make_it(airflow_db: None) -> None:
    with pytest.raises(ConfigurationError, match="airflow connections add elsewhere --conn-type claude"):
        ClaudeHook("elsewhere").get_config()


def test_missing_connection_is_not_replaced_by_the_environment(
    airflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with pytest.raises(ConfigurationError, match="no connection 'elsewhere'"):
        ClaudeHook("elsewhere").get_config()


def test_missing_default_connection_is_replaced_by_the_environment(
    airflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert ClaudeHook().get_config().credentials == EnvironmentApiKey(KEY)


def test_missing_default_connection_without_environment_says_both_remedies(airflow_db: None) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)connections add claude_default .*ANTHROPIC_API_KEY"):
        ClaudeHook().get_config()


def test_key_that_nothing_reads_is_warned_of_in_the_log(connect: Connect, capfd: pytest.CaptureFixture[str]) -> None:
    connect(password=KEY, extra={"team": "data"}).get_config()
    assert "Connection 'mine': nothing reads these keys of its extra: team." in "".join(capfd.readouterr())


def test_secrets_of_the_connection_are_masked_in_logs(connect: Connect) -> None:
    secrets = {"X-Gateway-Key": "gateway-hush-hush"}
    connect(password="sk-ant-hush-hush", extra={"headers": secrets}).get_config()
    assert _redacted("sk-ant-hush-hush, gateway-hush-hush") == "***, ***"


# ------------------------------------------------------------------ clients


def test_client_of_the_hook_talks_to_the_connections_host(claude_default: str) -> None:
    hook = ClaudeHook(claude_default)
    assert hook.get_conn() is hook.get_conn()
    with hook.get_conn() as client:
        assert client.list_batches(limit=1).data == []


def test_async_client_talks_to_the_connections_host(claude_default: str) -> None:
    async def ask() -> list[Any]:
        async with await ClaudeHook(claude_default).get_async_client() as client:
            return (await client.list_batches(limit=1)).data

    assert asyncio.run(ask()) == []


@pytest.mark.airflow
def test_connection_in_the_database_is_found_by_task_and_trigger(
    run_dag: Callable[..., Any], simulator_url: str
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="stored", conn_type="claude", password=KEY, host=simulator_url))
    with DAG("stored_connection", schedule=None) as dag:
        AskTwice(task_id="ask")

    assert str(run_dag(dag).state) == "success"


class AskTwice(BaseOperator):
    """Reads the connection in a task, then in a trigger."""

    def execute(self, context: Context) -> None:
        url = ClaudeHook("stored").get_config().base_url
        self.defer(trigger=Ask(url), method_name="compare")

    def compare(self, context: Context, event: dict[str, str]) -> None:
        if event["expected"] != event["got"]:
            raise AssertionError(event)


class Ask(BaseTrigger):
    def __init__(self, expected: str) -> None:
        super().__init__()
        self.expected = expected

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Ask", {"expected": self.expected}

    async def run(self) -> Any:
        async with await ClaudeHook("stored").get_async_client() as client:
            await client.list_batches()
        yield TriggerEvent({"expected": self.expected, "got": (await ClaudeHook("stored").get_async_config()).base_url})


# ------------------------------------------------------------------ the Test button


def test_good_connection_names_host_workspace_and_organization(claude_default: str, simulator_url: str) -> None:
    ok, said = ClaudeHook(claude_default).test_connection()
    assert ok
    assert said.startswith(f"Message batches can be used at {simulator_url} in workspace wrkspc_test of organization ")


@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")  # what Airflow's own model calls
def test_airflows_connection_test_calls_the_hook(simulator_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.models.connection import Connection

    connection = Connection(conn_id="button", conn_type="claude", password=KEY, host=simulator_url)
    monkeypatch.setenv("AIRFLOW_CONN_BUTTON", connection.get_uri())  # as the api-server does
    ok, said = connection.test_connection()
    assert ok, said


def test_connection_that_cannot_read_the_models_is_good_nevertheless(claude_default: str, simulator: Simulator) -> None:
    simulator.inject(Fault(do="status", on="models", status=403))
    ok, said = ClaudeHook(claude_default).test_connection()
    assert ok
    assert said.endswith("The model catalogue cannot be read with this credential.")


@pytest.mark.parametrize(
    ("fields", "fault", "expected"),
    [
        pytest.param({"password": "sk-ant-wrong"}, None, "401 authentication_error.*Check the API key", id="wrong-key"),
        pytest.param(
            {"extra": {"workspace_id": "wrkspc_other"}}, None, "403 permission_error.*permissions", id="wrong-workspace"
        ),
        pytest.param({}, Fault(do="status", on="list", status=403), "403.*may not do this", id="no-permission"),
        pytest.param({}, Fault(do="html", on="list"), "HTML page.*base URL is wrong", id="a-page"),
        pytest.param({}, Fault(do="status", on="list", status=529), "529 overloaded_error", id="overloaded"),
        pytest.param(
            {"host": "http://127.0.0.1:1"}, None, "Connection refused.*Check the connection's host", id="refused"
        ),
        pytest.param(
            {"host": "https://nowhere.invalid"},
            None,
            r"nowhere.invalid \(ConnectError.*Check the connection's host.*network, firewall, proxy",
            id="no-such-name",
        ),
        pytest.param({}, Fault(do="status", on="list", status=404), "404.*Check the base URL", id="no-such-path"),
        pytest.param({"password": None, "host": None}, None, "holds no credential", id="no-credential"),
        pytest.param({"host": "http://gw.corp"}, None, "must begin with https://", id="not-https"),
        pytest.param(
            {"extra": {"ca_file": "/nowhere/ca.pem"}, "host": "https://127.0.0.1:1"}, None, "CA file", id="ca"
        ),
    ],
)
def test_bad_connection_says_why(
    connect: Connect,
    simulator: Simulator,
    simulator_url: str,
    fields: dict[str, Any],
    fault: Fault | None,
    expected: str,
) -> None:
    if fault:
        simulator.inject(fault)
    hook = connect(**{"password": KEY, "host": simulator_url, **fields})

    ok, said = hook.test_connection()

    assert not ok
    assert re.search(expected, said, re.DOTALL), said
    assert KEY not in said


@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        pytest.param(
            {"extra": {"modle": "claude-haiku-5-5", "x": 1}},
            "Nothing reads these keys of its extra: modle (did you mean model?), x.",
            id="unknown-keys",
        ),
        pytest.param({"login": "me"}, "Nothing reads its login. An API key belongs into password.", id="login"),
        pytest.param({"conn_type": "http"}, "Its type is 'http' and not 'claude', but it is read as if it", id="type"),
    ],
)
def test_what_is_odd_about_a_connection_is_said_by_the_test_too(
    connect: Connect, simulator_url: str, fields: dict[str, Any], remark: str
) -> None:
    ok, said = connect(**{"password": KEY, "host": simulator_url, **fields}).test_connection()

    first, *remarks = said.split("\n")
    assert ok
    assert first.startswith("Message batches can be used at")
    assert len(remarks) == 1
    assert remarks[0].startswith(remark)


def test_host_without_a_scheme_says_that_https_was_assumed(connect: Connect, simulator_url: str) -> None:
    """Here it fails: the simulator speaks http."""
    address = simulator_url.removeprefix("http://")

    ok, said = connect(password=KEY, host=address).test_connection()

    assert not ok
    assert said.endswith(
        f"Its host names no scheme, so https was assumed: https://{address}. If it speaks http, write http://{address}."
    )


@pytest.mark.parametrize("variable", ['{"conn_type": "claude", "pasword": "k"}', "claude://:k@host:port", "{"])
def test_default_connection_that_cannot_be_read_is_not_replaced_by_the_environment(
    variable: str, airflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", variable)

    with pytest.raises(ConfigurationError, match="cannot read it from AIRFLOW_CONN_CLAUDE_DEFAULT"):
        ClaudeHook().get_config()


def test_host_with_an_untrusted_certificate_says_so(connect: Connect, self_signed: SelfSigned) -> None:
    ok, said = connect(password=KEY, host=self_signed.url).test_connection()
    assert not ok
    assert re.search("(?s)CERTIFICATE_VERIFY_FAILED.*name the CA file", said), said


def test_host_with_a_certificate_of_the_ca_file_is_trusted(connect: Connect, self_signed: SelfSigned) -> None:
    ok, said = connect(password=KEY, host=self_signed.url, extra={"ca_file": self_signed.ca_file}).test_connection()
    assert not ok
    assert "418" in said


@dataclass(frozen=True)
class SelfSigned:
    """Where a server with a certificate that nobody knows is, and the file that makes it known."""

    url: str
    ca_file: str


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[SelfSigned]:
    """Serve with a certificate of our own making; every answer is 418."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with HTTPServer(("127.0.0.1", 0), Teapot) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield SelfSigned(f"https://127.0.0.1:{server.server_port}", str(pem))
        server.shutdown()
        thread.join()


class Teapot(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(418)

    def log_message(self, *_: Any) -> None:
        pass


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2126, 1, 1, tzinfo=UTC))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


# ------------------------------------------------------------------ the form of Airflow 3.0 and 3.1


def test_form_of_older_airflow_has_the_fields_of_the_newer() -> None:
    wtforms = pytest.importorskip("wtforms")
    widgets = ClaudeHook.get_connection_form_widgets()
    assert list(widgets) == list(CONNECTION_FIELDS)
    masked = {name for name, widget in widgets.items() if widget.field_class is wtforms.PasswordField}
    assert masked == {"auth_token", "identity_token", "keyfile_dict"}


def test_standard_fields_of_older_airflow_are_those_of_the_newer() -> None:
    behaviour = ClaudeHook.get_ui_field_behaviour()
    assert behaviour["hidden_fields"] == UI_FIELD_BEHAVIOUR["hidden-fields"]
    assert behaviour["relabeling"] == UI_FIELD_BEHAVIOUR["relabeling"]


def _redacted(text: str) -> Any:
    if AIRFLOW_VERSION >= (3, 1):
        from airflow.sdk.log import redact
    else:
        from airflow.sdk.execution_time.secrets_masker import redact
    return redact(text)

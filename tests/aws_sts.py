"""A small server of AWS's token service (STS): it gives each caller keys of its own, which end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from airflow_claude_batch.simulator import AwsKey

ROLE = "arn:aws:iam::123456789012:role/claude-batches"
_RESPONSE = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>{role}</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
<SessionToken>{token}</SessionToken><Expiration>{expiration}</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"""
_REFUSAL = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>User is not authorized to perform: sts:AssumeRole</Message></Error>
<RequestId>r</RequestId></ErrorResponse>"""


class FakeSts:
    """Assumes one role. Its keys end ``lifetime`` after they were given.

    botocore asks for new keys ten minutes before they end. So with a lifetime below that, every call has new ones.

    :param keys: what it has given, as a simulator reads it. Only the newest ``valid`` are in it, like keys that ended.
    """

    def __init__(self, *, lifetime: timedelta = timedelta(minutes=5), valid: int = 2) -> None:
        self.keys: dict[str, AwsKey | str] = {}
        self.lifetime, self.valid = lifetime, valid
        self.given = self.refused = 0
        self.refuses = False
        self.url = ""
        self._lock = threading.Lock()

    def assume(self, role: str) -> tuple[int, str]:
        """Return the status and the body of a response."""
        if self.refuses or role != ROLE:
            self.refused += 1
            return 403, _REFUSAL
        with self._lock:
            self.given += 1
            name, secret, token = f"ASIA{self.given:016d}", f"secret-{self.given}", f"token-{self.given}"
            self.keys[name] = AwsKey(secret=secret, session_token=token)
            for ended in list(self.keys)[: -self.valid]:
                del self.keys[ended]
        ends_at = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, _RESPONSE.format(role=role, access_key=name, secret=secret, token=token, expiration=ends_at)

    @contextmanager
    def serving(self) -> Iterator[FakeSts]:
        sts = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                status, text = sts.assume(parse_qs(body)["RoleArn"][0])
                self.send_response(status)
                self.send_header("content-type", "text/xml")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Keep the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def environment(self, folder: Path) -> dict[str, str]:
        """Return variables with which AWS's default chain assumes the role here."""
        config, credentials = folder / "aws-config", folder / "aws-credentials"
        config.write_text(f"[default]\nregion = us-west-2\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\n")
        credentials.write_text("[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = base-secret\n")
        return {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
            "AWS_ENDPOINT_URL_STS": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

"""The platforms of AWS and Google, and the accounts of a machine there. Their credentials are for one call or two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_stack import UNTIL_ENDED
from aws_sts import FakeSts
from google_servers import MetadataServer, NewestTokens

from airflow_claude_batch.simulator import AwsPlatform, GooglePlatform, Simulator

WORKSPACE = "wrkspc_01Simulator"


@dataclass(frozen=True)
class Platforms:
    """Running platforms.

    :param settings: the environment variables of an Airflow that runs there.
    """

    aws: Simulator
    google: Simulator
    sts: FakeSts
    metadata: MetadataServer
    settings: dict[str, str]


@contextmanager
def running_platforms(folder: Path) -> Iterator[Platforms]:
    sts, metadata = FakeSts(), MetadataServer(lifetime=0)
    aws = Simulator(platform=AwsPlatform(access_keys=sts.keys), batch_seconds=UNTIL_ENDED)
    google = Simulator(platform=GooglePlatform(tokens=NewestTokens(metadata)), batch_seconds=UNTIL_ENDED)
    assert google.google is not None
    with ExitStack() as running:
        running.enter_context(sts.serving())
        machine = running.enter_context(metadata.serve())
        settings = {
            **sts.environment(folder),
            "ANTHROPIC_AWS_BASE_URL": running.enter_context(aws.serve()).url,
            "AIRFLOW_CONN_ON_AWS": _connection(platform="aws", region="us-west-2"),
            "GCE_METADATA_HOST": machine,
            "GCE_METADATA_IP": machine,
            "CLOUDSDK_CONFIG": "/nonexistent",  # no login of gcloud's
            "ANTHROPIC_GOOGLE_CLOUD_BASE_URL": running.enter_context(google.serve()).url + google.google.path(),
            "AIRFLOW_CONN_ON_GOOGLE": _connection(platform="google", project_id="simulator-project"),
        }
        yield Platforms(aws, google, sts, metadata, settings)


def _connection(**extra: Any) -> str:
    """Return a connection that holds no credential."""
    return json.dumps({"conn_type": "claude", "extra": {"workspace_id": WORKSPACE, **extra}})

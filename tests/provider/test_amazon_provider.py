"""Keys of an Airflow connection to AWS, read by the hook of the real Amazon provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_sts import ROLE, FakeSts
from real_providers import try_connections, unpack_wheels

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.simulator import AwsPlatform, Simulator

pytestmark = pytest.mark.airflow

#: Of Airflow's day: the provider needs other providers in versions of about its own.
WHEEL = f"apache-airflow-providers-amazon=={'9.12.0' if AIRFLOW_VERSION < (3, 1) else '9.39.0'}"
EXTRA = {"platform": "aws", "region": "us-west-2", "workspace_id": "wrkspc_01Simulator"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_wheels(tmp_path_factory.mktemp("amazon"), WHEEL)


@pytest.fixture
def sts() -> Iterator[FakeSts]:
    with FakeSts().serving() as sts:
        yield sts


@pytest.fixture
def try_connection(airflow_db: None, provider: Path, sts: FakeSts) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Test a connection that names a connection to AWS, in a process with the Amazon provider."""
    simulator = Simulator(platform=AwsPlatform(access_keys=sts.keys))
    with simulator.serve() as server:

        def run(aws: dict[str, Any] | None) -> Any:
            claude = {"conn_type": "claude", "host": server.url, "extra": {**EXTRA, "aws_conn_id": "aws_batches"}}
            named = {} if aws is None else {"aws_batches": {"conn_type": "aws", **aws}}
            return try_connections(provider, {"claude_default": claude, **named})

        yield run


def role(sts: FakeSts) -> dict[str, Any]:
    extra = {"role_arn": ROLE, "service_config": {"sts": {"endpoint_url": sts.url}}}
    return {"login": "AKIABASE", "password": "base-secret", "extra": extra}


def test_role_of_an_aws_connection_signs(try_connection: Callable[..., Any], sts: FakeSts) -> None:
    said = try_connection(role(sts))

    assert said["works"], said["message"]
    assert "(Claude Platform on AWS, region us-west-2)" in said["message"]
    assert (said["listed"], said["is_equal"]) == (0, True)
    assert sts.given >= 3


def test_role_that_may_not_be_assumed_is_told(try_connection: Callable[..., Any], sts: FakeSts) -> None:
    sts.refuses = True

    said = try_connection(role(sts))

    assert "no keys from AWS connection 'aws_batches'.\nNothing was sent.\nAWS refused them: " in said["message"]
    assert "base-secret" not in said["message"]


def test_stored_keys_sign(try_connection: Callable[..., Any], sts: FakeSts) -> None:
    sts.keys["AKIASTORED"] = "stored-secret"

    assert try_connection({"login": "AKIASTORED", "password": "stored-secret"})["works"]


def test_aws_connection_that_is_missing_is_told(try_connection: Callable[..., Any]) -> None:
    said = try_connection(None)

    assert "aws_conn_id names 'aws_batches', but there is no such connection." in said["message"]


@pytest.mark.parametrize("extra", [{}, {"profile_name": "default"}], ids=["nothing", "profile"])
def test_keys_of_the_machine_sign_for_no_host_of_a_connection(
    extra: dict[str, Any], try_connection: Callable[..., Any]
) -> None:
    said = try_connection({"extra": extra})

    assert "it names a host but holds no credential.\n" in said["message"]


def test_password_of_another_service_signs_nothing(try_connection: Callable[..., Any]) -> None:
    said = try_connection({"conn_type": "postgres", "login": "airflow", "password": "guessable"})

    assert "aws_conn_id names 'aws_batches', which is of type 'postgres' and not aws." in said["message"]
    assert "guessable" not in said["message"]

"""What the cluster does where PostgreSQL or Redis are missing."""

import os
from pathlib import Path

import pytest
from cluster import services
from cluster.services import ServiceError, require


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root user whose path contains only what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def put(path: Path, name: str, script: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{script}\n")
    (path / name).chmod(0o755)


def test_nothing_is_installed_where_nothing_is_missing(path: Path) -> None:
    put(path, "redis-server", "")
    put(path, "apt-get", "exit 1")
    require("redis-server")
    assert services.find("redis-server") == path / "redis-server"


def test_without_apt_the_error_names_what_is_missing(path: Path) -> None:
    with pytest.raises(ServiceError, match="This needs redis-server, and there is no apt-get"):
        require("redis-server")


def test_without_root_the_error_names_the_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(path, "apt-get", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceError, match="only root can install: apt-get install redis-server"):
        require("redis-server")


def test_root_installs_what_is_missing_without_starting_it(path: Path) -> None:
    put(
        path,
        "apt-get",
        f'echo "$RUNLEVEL $*" >> {path}/asked; echo > {path}/redis-server; /bin/chmod +x {path}/redis-server',
    )
    require("redis-server")
    assert (path / "asked").read_text().splitlines() == [
        "1 update -qq",
        "1 install -qq --no-install-recommends redis-server",
    ]


def test_a_failed_installation_says_why(path: Path) -> None:
    put(path, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(ServiceError, match=r"did not install redis-server:\nE: Unable to locate package"):
        require("redis-server")

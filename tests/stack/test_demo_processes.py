"""Child processes are found and stopped by their session, and no other process is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.errors import DemoError
from demo.processes import ChildProcess, Session, SessionFile, stop

# Starts a child in its own process group, as Airflow does with task runners, and waits.
PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; print('child', flush=True); signal.pause()"],
                         process_group=0)
print("parent", flush=True)
{more}
signal.pause()
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stubborn', flush=True)"


def start(tmp_path: Path, *, more: str = "", ready: tuple[str, ...] = ("parent", "child")) -> ChildProcess:
    command = [sys.executable, "-c", PARENT.format(more=more)]
    child = ChildProcess.start("parent", command, env=os.environ, cwd=tmp_path, log_path=tmp_path / "parent.log")
    wait_for(lambda: all(word in child.tail() for word in ready), seconds=120, what="the children", pause_seconds=0.02)
    return child


def test_stopping_a_session_ends_children_in_other_process_groups(tmp_path: Path) -> None:
    child = start(tmp_path)
    members = child.session.members()
    assert len(members) == 2

    assert stop([child.session]) == ["parent"]

    child.popen.wait(60)
    assert psutil.wait_procs(members, timeout=60)[1] == []


def test_leader_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = start(tmp_path, more=STUBBORN, ready=("child", "stubborn"))

    stop([child.session], grace_seconds=0.2)

    assert child.popen.wait(60) == -signal.SIGKILL


def test_orphans_of_a_killed_leader_are_still_found(tmp_path: Path) -> None:
    child = start(tmp_path)
    os.kill(child.session.pid, signal.SIGKILL)
    child.popen.wait(60)
    (orphan,) = child.session.members()

    assert stop([child.session]) == ["parent"]

    assert psutil.wait_procs([orphan], timeout=60)[1] == []


def test_kill_ends_the_whole_session(tmp_path: Path) -> None:
    child = start(tmp_path)

    child.kill()

    assert child.exit_code == -signal.SIGKILL
    assert child.session.members() == []


def test_pid_that_belongs_to_another_process_now_is_not_stopped(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True) as other:
        session = Session("parent", other.pid, created_at=psutil.Process(other.pid).create_time() - 60)
        try:
            assert stop([session], grace_seconds=0) == []
            assert other.poll() is None
        finally:
            other.kill()


def test_sessions_survive_in_their_file_until_there_are_none(tmp_path: Path) -> None:
    file = SessionFile(tmp_path / "home" / "sessions.json")
    sessions = [Session("scheduler", 12, 34.5), Session("triggerer", 13, 34.75)]
    assert file.read() == []

    file.write(sessions)
    assert file.read() == sessions

    file.write([])
    assert file.read() == []


def test_airflow_process_that_stops_unexpectedly_is_reported_with_its_log(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho no such table: dag; exit 3\n")
    python.chmod(0o755)
    with AirflowProcesses(tmp_path / "home", dags_folder=tmp_path, venv=tmp_path / "venv") as airflow:
        airflow.start("scheduler")

        with pytest.raises(
            DemoError, match=r"scheduler stopped unexpectedly with exit code 3\.\nThe end of .*:\nno such table: dag"
        ):
            airflow.wait_until_healthy("scheduler")

"""Child processes that can always be found and stopped, even after the process that started them was killed.

Each child leads a session of its own. Its children stay in that session, in any process group.
So the session identifies the processes to stop. No process is ever stopped by its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Session:
    """Identifies the session of a child process.

    :param pid: process id of the session's leader.
    :param created_at: start time of that process in epoch seconds. A later process with the same id has another.
    """

    name: str
    pid: int
    created_at: float

    def members(self) -> list[psutil.Process]:
        """Return the running processes of the session. Returns none if the pid now belongs to another process."""
        if _is_another_process(self.pid, self.created_at):
            return []
        return [
            process for process in psutil.process_iter() if _session_of(process) == self.pid and _is_running(process)
        ]

    def has_leader(self) -> bool:
        """Tell whether the leader is running."""
        return any(process.pid == self.pid for process in self.members())


@dataclass(slots=True)
class ChildProcess:
    """One started program. It leads its own session and writes its output to a file."""

    session: Session
    log_path: Path
    popen: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def start(
        cls, name: str, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log_path: Path
    ) -> ChildProcess:
        """Start the program. Its output is appended to ``log_path``."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            popen = subprocess.Popen(  # noqa: S603  the command is ours, from no user's input
                [str(part) for part in command],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        session = Session(name, popen.pid, psutil.Process(popen.pid).create_time())
        return cls(session, log_path, popen)

    @property
    def name(self) -> str:
        """Return the name of the child in messages."""
        return self.session.name

    @property
    def exit_code(self) -> int | None:
        """Return the exit code. None: it is running."""
        return self.popen.poll()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the child's output."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """Kill the whole session, as a crash would."""
        _kill(self.session)
        self.popen.wait()


def stop(sessions: Iterable[Session], *, grace_seconds: float = 10) -> list[str]:
    """Terminate the sessions' leaders, wait, kill the rest. Returns the names of the sessions that were running."""
    running = [session for session in sessions if session.members()]
    for session in running:
        _signal_all([p for p in session.members() if p.pid == session.pid], signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(session.has_leader() for session in running):
        time.sleep(0.1)
    for session in running:
        _kill(session)
    return [session.name for session in running]


class SessionFile:
    """Stores the started sessions on disk, so that a later process can stop them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Session]:
        """Return the stored sessions. Returns none if there is no file."""
        try:
            return [Session(**entry) for entry in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []

    def write(self, sessions: Iterable[Session]) -> None:
        """Replace the file, or delete it when there is nothing to stop."""
        entries = [asdict(session) for session in sessions]
        if not entries:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(entries))
        new.replace(self._path)


def _kill(session: Session) -> None:
    while members := session.members():  # again, for children that started meanwhile
        _signal_all(members, signal.SIGKILL)
        time.sleep(0.02)


def _is_another_process(pid: int, created_at: float) -> bool:
    try:
        return bool(abs(psutil.Process(pid).create_time() - created_at) > 1)
    except psutil.NoSuchProcess:
        return False


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue

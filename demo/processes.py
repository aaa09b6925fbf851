"""Child processes that can always be found again and stopped, also after their starter was killed.

Each child leads a session of its own. Whatever it starts stays in that session, whichever process group it
moves to, so the session says what is ours to stop; nothing is ever stopped by its name.
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
    """The address of a child's session.

    :param pid: the session's leader.
    :param created_at: when that process was born, in epoch seconds; tells it from a later one of that pid.
    """

    name: str
    pid: int
    created_at: float

    def members(self) -> list[psutil.Process]:
        """The living processes of the session; none when the pid has been given to somebody else since."""
        if _is_another_process(self.pid, self.created_at):
            return []
        everybody = psutil.process_iter()
        return [process for process in everybody if _session_of(process) == self.pid and _is_running(process)]

    def is_led(self) -> bool:
        """Whether the leader still runs."""
        return any(process.pid == self.pid for process in self.members())


@dataclass(slots=True)
class ChildProcess:
    """One started program, leader of its session, with its output in a file."""

    session: Session
    log_path: Path
    popen: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def start(
        cls, name: str, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log_path: Path
    ) -> ChildProcess:
        """Start the program; its output is appended to ``log_path``."""
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
        """What the child is called in messages."""
        return self.session.name

    @property
    def exit_code(self) -> int | None:
        """How the child ended; None while it runs."""
        return self.popen.poll()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the child's output."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """End the whole session at once, as a crash would."""
        _kill(self.session)
        self.popen.wait()


def stop(sessions: Iterable[Session], *, grace_seconds: float = 10) -> list[str]:
    """Ask the sessions' leaders to end, wait, kill what is left; answers the names of those that were there."""
    living = [session for session in sessions if session.members()]
    for session in living:
        _signal_all([p for p in session.members() if p.pid == session.pid], signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(session.is_led() for session in living):
        time.sleep(0.1)
    for session in living:
        _kill(session)
    return [session.name for session in living]


class SessionFile:
    """The sessions that were started, on disk, for whoever has to stop them later."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Session]:
        """The sessions written last; none when there is no file."""
        try:
            return [Session(**entry) for entry in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []

    def write(self, sessions: Iterable[Session]) -> None:
        """Replace the file, or remove it when there is nothing left to stop."""
        entries = [asdict(session) for session in sessions]
        if not entries:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(entries))
        new.replace(self._path)


def _kill(session: Session) -> None:
    while members := session.members():  # again for those that were being born
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

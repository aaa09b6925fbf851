"""Find the message batches that a command names, and the connections that reach them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_claude_batch._airflow.servers import Session
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.commands.lookup import batch_ids_of, find_by_id, id_of, name_of
from airflow_claude_batch.hooks import ClaudeHook

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: Every id of a message batch begins so, and no id of a submission does.
BATCH_PREFIX: Final = "msgbatch_"


@dataclass(frozen=True, slots=True)
class NamedBatch:
    """A message batch that a command acts on.

    :param owner: the task instance that knows it, None if none does.
    """

    id: str
    conn_id: str
    owner: FoundSubmission | None = None

    @property
    def owner_name(self) -> str:
        return "" if self.owner is None else name_of(self.owner.key)


def named_batches(session: Session, ids: Iterable[str], conn_id: str | None) -> list[NamedBatch]:
    """Return the message batches with these ids, and for a submission's id its batches.

    :param conn_id: the connection for all of them. None: the one of the submission, or the default.
    :raises InputError: an id can be neither.
    """
    found: dict[str, NamedBatch] = {}
    for id_ in dict.fromkeys(ids):
        knowing = list(find_by_id(session, id_))
        batch_ids = [batch_id for each in of_submission(knowing, id_) for batch_id in batch_ids_of(each)]
        found |= with_owner(batch_ids or [check_batch_id(id_)], knowing, conn_id)
    return list(found.values())


def of_submission(knowing: Sequence[FoundSubmission], id_: str) -> list[FoundSubmission]:
    """Return the task instances of the submission with this id. A message batch's id never names a submission."""
    return [] if id_.startswith(BATCH_PREFIX) else [each for each in knowing if id_of(each) == id_]


def with_owner(
    batch_ids: Iterable[str], knowing: Sequence[FoundSubmission], conn_id: str | None
) -> dict[str, NamedBatch]:
    """Return these batches by their ids.

    :param knowing: the task instances that know them, the one that has changed last first.
    :param conn_id: as in :func:`named_batches`.
    """
    owner = next(iter(knowing), None)
    known = None if owner is None or owner.snapshot is None else owner.snapshot.conn_id
    conn_id = conn_id or known or ClaudeHook.default_conn_name
    return {batch_id: NamedBatch(batch_id, conn_id, owner) for batch_id in batch_ids}


@contextmanager
def open_clients() -> Generator[Callable[[str], ClaudeClient]]:
    """Yield a function that returns the client of a connection. All of them are closed at the end."""
    clients: dict[str, ClaudeClient] = {}
    with ExitStack() as stack:

        def client_of(conn_id: str) -> ClaudeClient:
            if conn_id not in clients:
                clients[conn_id] = stack.enter_context(ClaudeHook(conn_id).get_conn())
            return clients[conn_id]

        yield client_of

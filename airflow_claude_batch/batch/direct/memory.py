"""Memory of a process that asks requests directly."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.direct.journal import DirectJournal
from airflow_claude_batch.batch.direct.pace import Pace
from airflow_claude_batch.batch.ledger.ledger import Ledger, new_token


@dataclass(slots=True, kw_only=True)
class DirectMemory:
    """What a process remembers of the requests that it has asked directly, from one landing to the next.

    :ivar tried: requests that it does not ask again, whatever came of them.
    :ivar lost: those of them whose response was lost.
    :ivar left_because: why requests were not asked, in words. None if all were.
    """

    journal: DirectJournal
    #: Names the requests of this process in its journal.
    token: str = field(default_factory=new_token)
    tried: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    left_because: str | None = None
    has_begun: bool = False
    #: Requests that were asked again after their response was lost, each of them once.
    asked_again: set[int] = field(default_factory=set)
    #: Responses that were lost one after the other, with none in between that came.
    lost_in_a_row: int = 0
    #: The journal has an answer that could not be landed.
    has_unlanded: bool = False
    #: How fast the API takes requests. None at first, and after a long pause.
    pace: Pace | None = None

    @classmethod
    def of(cls, folder: storage.Folder, ledger: Ledger) -> DirectMemory:
        """Remember what earlier processes of this attempt have noted in the ledger.

        :param folder: the submission's, without a check of who owns it: what is in flight may be answered later.
        """
        lost = set(ledger.direct.lost) if ledger.direct else set()
        return cls(journal=DirectJournal(folder, ledger.attempt), tried=lost.copy(), lost=lost)

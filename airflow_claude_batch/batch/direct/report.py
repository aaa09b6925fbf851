"""What became of requests that were asked directly."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from airflow_claude_batch.exceptions import APIError


class NotAsked(Enum):
    """Why a request was not asked, or not accepted."""

    TOO_LATE = "it could not start in time"
    TOO_COSTLY = "the limit on the cost has no room for it"
    STOPPED = "the task was stopped"
    HANDED_BACK = "it is the caller's turn"
    REFUSED_TO_ALL = "the API takes no request: the credential, its permissions or the account's credit"


@dataclass(slots=True)
class DirectReport:
    """What became of the requests.

    :ivar answered: number of requests that were answered, and are billed.
    :ivar refused: number of requests that the API refused for good. They are not billed.
    :ivar lost: number of requests whose response was lost. They may be billed.
    :ivar held_back: how often a request was not accepted for now.
    :ivar not_asked: why a request was not asked, by index. Those that were never taken from the iterator are missing.
    :ivar stopped: why no more requests were taken from it. None if all were.
    :ivar error: of a refusal to all.
    :ivar held_back_by: the error of the last request that was not accepted for now.
    :ivar resume_in: seconds until a request may start. None unless the sender handed back because of that.
    :ivar spent: USD that was billed, and may have been for lost responses.
    """

    answered: int = 0
    refused: int = 0
    lost: int = 0
    held_back: int = 0
    not_asked: dict[int, NotAsked] = field(default_factory=dict)
    stopped: NotAsked | None = None
    error: APIError | None = None
    held_back_by: APIError | None = None
    resume_in: float | None = None
    spent: Decimal = Decimal(0)

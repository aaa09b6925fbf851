"""Canned answers: which one a request gets. The first that matches, in the order in which they were added."""

from __future__ import annotations

import heapq
import re
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from airflow_claude_batch.simulator.messages.outcomes import SUCCEEDED, Outcome, invalid
from airflow_claude_batch.simulator.messages.prompts import Params, last_user_text

Unmatched = Literal["default", "error"]

# The custom_ids that the Airflow package gives: a token of the create call, the request's index, a hash of its params.
_WITH_TOKEN = re.compile(r"[0-9a-f]{12}-(?P<index>[0-9]{1,10})-[A-Za-z0-9_-]{22}")
_EXCERPT = 60


@dataclass(frozen=True, slots=True, eq=False)
class CannedAnswer:
    """One answer, and the requests that it is for: those that agree with every field that is set.

    :param place: names it in errors: "answers.jsonl, line 3".
    :param index: the request's index, as the rows of the Airflow package have it.
    :param prompt: searched for in the text of the last user message.
    :param attempt: only for the n-th batch that contains these very params.
    :param answer: text, or a dict of message fields. None: what would be answered without canned answers.
    :param thinking: text of a thinking block before the answer, in requests that think.
    """

    place: str
    custom_id: str | None = None
    custom_id_pattern: re.Pattern[str] | None = None
    index: int | None = None
    prompt: re.Pattern[str] | None = None
    attempt: int | None = None
    answer: str | dict[str, Any] | None = None
    thinking: str | None = None
    outcome: Outcome = SUCCEEDED

    @property
    def for_every_request(self) -> bool:
        fields = (self.custom_id, self.custom_id_pattern, self.index, self.prompt, self.attempt)
        return all(value is None for value in fields)

    def matches(self, custom_id: str, prompt: str, attempt: int) -> bool:
        return (
            (self.custom_id is None or _identity(self.custom_id) == _identity(custom_id))
            and (self.custom_id_pattern is None or self.custom_id_pattern.search(custom_id) is not None)
            and (self.index is None or self.index == _index(custom_id))
            and (self.prompt is None or self.prompt.search(prompt) is not None)
            and (self.attempt is None or self.attempt == attempt)
        )


@dataclass(slots=True)
class _Added:
    number: int
    answer: CannedAnswer
    matched: int = 0


@dataclass(slots=True)
class CannedAnswers:
    """The canned answers of a simulator.

    :param unmatched: what a request gets that none matches: "default", the answer as without canned answers, or
        "error", an errored row.
    """

    unmatched: Unmatched = "default"
    _all: list[_Added] = field(default_factory=list)
    _by_custom_id: dict[str, list[_Added]] = field(default_factory=lambda: defaultdict(list))
    _others: list[_Added] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.set_unmatched(self.unmatched)

    def set_unmatched(self, unmatched: Unmatched) -> None:
        """Change what a request gets that none matches.

        :raises ValueError: when there is no such choice.
        """
        if unmatched not in get_args(Unmatched):
            raise ValueError(f"unmatched is {unmatched!r}.\nChoose {' or '.join(get_args(Unmatched))}.")
        self.unmatched = unmatched

    @property
    def active(self) -> bool:
        """Tell whether they decide anything."""
        return bool(self._all) or self.unmatched == "error"

    @property
    def count_attempts(self) -> bool:
        """Tell whether any of them depends on how often the same params were sent."""
        return any(added.answer.attempt is not None for added in self._all)

    def add(self, answers: Sequence[CannedAnswer]) -> None:
        """Add all of them, or none.

        :raises ValueError: when one could never match, because an earlier one matches every request.
        """
        with self._lock:
            _check_reachable([*(added.answer for added in self._all), *answers])
            for answer in answers:
                added = _Added(len(self._all), answer)
                self._all.append(added)
                named = answer.custom_id is not None
                (self._by_custom_id[_identity(answer.custom_id or "")] if named else self._others).append(added)

    def clear(self) -> None:
        with self._lock:
            self._all, self._others = [], []
            self._by_custom_id.clear()

    def find(self, custom_id: str, params: Params, attempt: int) -> CannedAnswer | None:
        """Return the answer to a request, and count it. None: the request gets what it gets without canned answers."""
        prompt = last_user_text(params)
        with self._lock:
            named = self._by_custom_id.get(_identity(custom_id), [])
            for added in heapq.merge(named, self._others, key=lambda added: added.number):
                if added.answer.matches(custom_id, prompt, attempt):
                    added.matched += 1
                    return added.answer
        return None if self.unmatched == "default" else _no_answer(custom_id, prompt)

    def report(self) -> list[dict[str, Any]]:
        """Say how many requests each answer was for, in the order of the answers."""
        with self._lock:
            return [{"answer": added.answer.place, "matched": added.matched} for added in self._all]


def _check_reachable(answers: Sequence[CannedAnswer]) -> None:
    first = next((position for position, answer in enumerate(answers) if answer.for_every_request), None)
    if first is not None and first + 1 < len(answers):
        raise ValueError(
            f"{answers[first + 1].place} can never match.\n"
            f"{answers[first].place} comes first and matches every request, because it has no condition.\n"
            "Put the one without a condition last, or remove the earlier answers first."
        )


def _no_answer(custom_id: str, prompt: str) -> CannedAnswer:
    text = f"No canned answer matches this request (custom_id {custom_id}, prompt “{prompt[:_EXCERPT]}”)."
    return CannedAnswer(place="unmatched", outcome=invalid(text))


def _identity(custom_id: str) -> str:
    """Return what is the same of a custom_id when the same input is sent again: all but a leading token."""
    return custom_id[12:] if _WITH_TOKEN.fullmatch(custom_id) else custom_id


def _index(custom_id: str) -> int | None:
    found = _WITH_TOKEN.fullmatch(custom_id)
    return None if found is None else int(found["index"])

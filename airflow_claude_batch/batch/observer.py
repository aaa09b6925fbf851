"""What happens on the way of a submission that a deployment may want to count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Protocol

Recovery = Literal[
    "adopted",  # the answer to a create was lost, and its batch was found
    "sent_again",  # the answer to a create was lost, and it had not arrived
    "taken_over",  # a later try went on with what an earlier one had sent
]


class Observer(Protocol):
    """Is told what happens. It must neither fail nor hold up."""

    def batch_created(self, requests: Mapping[str, int]) -> None:
        """A message batch was created, of so many requests of each model."""

    def recovered(self, how: Recovery) -> None:
        """Something that peers pay twice for was not."""

    def batch_ended(self, time: timedelta) -> None:
        """A message batch was landed; the API had it for so long, by its own clock."""

    def poll_failed(self, error: Exception) -> None:
        """A look at message batches failed."""


class NullObserver:
    """Nobody counts."""

    def batch_created(self, requests: Mapping[str, int]) -> None:
        """Nothing to do."""

    def recovered(self, how: Recovery) -> None:
        """Nothing to do."""

    def batch_ended(self, time: timedelta) -> None:
        """Nothing to do."""

    def poll_failed(self, error: Exception) -> None:
        """Nothing to do."""

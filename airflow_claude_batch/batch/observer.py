"""Events of a submission that a deployment may want to count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Protocol

Recovery = Literal[
    "adopted",  # a create call got no response, and its batch was found
    "sent_again",  # a create call got no response, and it was not accepted
    "taken_over",  # a later try continued with what an earlier one had sent
]


class Observer(Protocol):
    """Receives the events of a submission. Its methods must not raise and must not block."""

    def batch_created(self, requests: Mapping[str, int]) -> None:
        """Count a created message batch: number of requests by model."""

    def recovered(self, how: Recovery) -> None:
        """Count a recovery after which nothing is paid for twice."""

    def batch_ended(self, time: timedelta) -> None:
        """Record how long the API took for a landed message batch, by the API's clock."""

    def poll_failed(self, error: Exception) -> None:
        """Count a failed poll."""


class NullObserver:
    """Observer that records nothing."""

    def batch_created(self, requests: Mapping[str, int]) -> None:
        pass

    def recovered(self, how: Recovery) -> None:
        pass

    def batch_ended(self, time: timedelta) -> None:
        pass

    def poll_failed(self, error: Exception) -> None:
        pass

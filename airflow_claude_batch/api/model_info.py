"""The model catalogue's JSON objects as typed values. They are read as tolerantly as those of :mod:`~.wire`."""

from __future__ import annotations

import msgspec

from airflow_claude_batch.api.wire import Timestamp


class Capability(msgspec.Struct, frozen=True):
    """Support of a model for one feature."""

    supported: bool


class ModelCapabilities(msgspec.Struct, frozen=True):
    """Features of a model that matter to a batch."""

    batch: Capability | None = None
    structured_outputs: Capability | None = None


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue. ``lifecycle`` is active, deprecated or retired. ``max_tokens`` limits one answer."""

    id: str
    display_name: str | None = None
    created_at: Timestamp | None = None
    line: str | None = None
    lifecycle: str | None = None
    deprecated_at: Timestamp | None = None
    retires_at: Timestamp | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: ModelCapabilities | None = None

    @property
    def batch_supported(self) -> bool | None:
        """True if the model can run in message batches, None if the API does not say."""
        batch = self.capabilities.batch if self.capabilities else None
        return batch.supported if batch else None


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the model catalogue."""

    data: list[ModelInfo]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None

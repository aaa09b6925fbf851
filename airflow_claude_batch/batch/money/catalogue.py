"""Looks models up in the API's catalogue, and tells whether a model certainly is not in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.api.model_info import ModelInfo
from airflow_claude_batch.batch.money.model_names import may_be_alias, suggest_models
from airflow_claude_batch.exceptions import APIError, InputError, NotFoundError

log = logging.getLogger(__name__)

#: Models that are looked up in one run. A submission rarely names more than two.
MAX_LOOKUPS: Final = 10
_LIFECYCLES: Final = ("active", "deprecated", "retired")


class ModelCatalogue(Protocol):
    """Looks models up; the API's client does."""

    @property
    def is_anthropic(self) -> bool:
        """Whether it is the catalogue of Anthropic's own API. One of a gateway may be partial."""
        ...

    @property
    def betas(self) -> tuple[str, ...]:
        """The betas of every request. One of them may enlarge the context window of models."""
        ...

    def retrieve_model(self, model_id: str, /) -> ModelInfo:
        """Look a model up, by its id or an alias.

        :raises NotFoundError: there is none.
        :raises APIError: it could not be looked up.
        """
        ...

    def list_models(self, *, lifecycle: Sequence[str] = ()) -> list[ModelInfo]:
        """List the models of these lifecycles.

        :raises APIError: they could not be listed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lookup:
    """The catalogue's answer about a name.

    :param info: the model. None if the catalogue could not be read, or does not have it.
    :param is_missing: the catalogue does not have the model.
    :param is_certain: the API itself has said twice that there is no such model, and the name cannot be an alias.
    :param alike: the models that may be meant.
    :param usable: some names of models that can be used, the newest first.
    """

    info: ModelInfo | None = None
    is_missing: bool = False
    is_certain: bool = False
    alike: tuple[str, ...] = ()
    usable: tuple[str, ...] = ()


class CatalogueReader:
    """Looks each name up once, and none after the first failure.

    :param catalogue: None has no answer about any model.
    :param names: the names that the price table has for a model: its id and its aliases.
    """

    def __init__(self, catalogue: ModelCatalogue | None, names: Sequence[tuple[str, ...]]) -> None:
        self.is_anthropic = catalogue is not None and catalogue.is_anthropic
        self._catalogue = catalogue
        self._names = names
        self._found: dict[str, Lookup] = {}
        self._listed: list[ModelInfo] | None = None

    def look_up(self, model: str) -> Lookup:
        """Look a name up."""
        if model not in self._found:
            self._found[model] = self._retrieve(model) if len(self._found) < MAX_LOOKUPS else Lookup()
        return self._found[model]

    def _retrieve(self, model: str) -> Lookup:
        if self._catalogue is None:
            return Lookup()
        try:
            return Lookup(self._catalogue.retrieve_model(model))
        except InputError:  # a name that cannot be part of a URL
            return self._missing(model, self._catalogue)
        except APIError as error:
            if isinstance(error, NotFoundError) and proof_of(error) is Proof.DOES_NOT_EXIST:
                return self._missing(model, self._catalogue)
            log.info("The API's catalogue of models could not be read, so the price table is used: %s", error)
            self._catalogue = None
        return Lookup()

    def _missing(self, model: str, catalogue: ModelCatalogue) -> Lookup:
        listed = self._list(catalogue)
        ids = [info.id for info in listed or ()]
        usable = [info.id for info in listed or () if info.lifecycle != "retired"]
        is_known = model in ids or may_be_alias(model, ids) or any(name in ids for name in self._same_model(model))
        return Lookup(
            is_missing=True,
            is_certain=bool(ids) and catalogue.is_anthropic and not is_known,
            alike=tuple(suggest_models(model, [*usable, *self._aliases(usable)] if ids else self._all_names())),
            usable=tuple(usable),
        )

    def _list(self, catalogue: ModelCatalogue) -> list[ModelInfo] | None:
        if self._listed is None:
            try:
                self._listed = catalogue.list_models(lifecycle=_LIFECYCLES)
            except APIError as error:
                log.info("The API's catalogue of models could not be listed: %s", error)
        return self._listed

    def _same_model(self, model: str) -> tuple[str, ...]:
        return next((names for names in self._names if model in names), ())

    def _aliases(self, ids: Sequence[str]) -> Iterator[str]:
        for names in self._names:
            if not set(names).isdisjoint(ids):
                yield from names[1:]

    def _all_names(self) -> list[str]:
        return [name for names in self._names for name in names]

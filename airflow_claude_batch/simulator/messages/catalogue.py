"""The catalogue of models: those that the simulator knows, and those that its user adds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from airflow_claude_batch.simulator.messages.models import MODELS, Model

ANY = "*"
_UNNAMED = MODELS[0]  # whose rules a model gets whose id says nothing
_NAME = re.compile(r"claude-(?P<line>[a-z]+)-(?P<major>\d{1,3})(-(?P<minor>\d{1,3}))?(-\d{8})?")


class Catalogue:
    """Finds models by id or alias.

    :param added: more models, or their ids. An id alone gets the rules of the version that it names, or else of the
        newest. ``"*"``: every id is a model.
    """

    def __init__(self, added: Iterable[Model | str] = ()) -> None:
        more = list(added)
        self._takes_any = ANY in more
        new = [_to_model(each) for each in more if each != ANY]
        ids = {model.id for model in new}
        #: Newest first, as the API lists them.
        self.models: tuple[Model, ...] = (*new, *(model for model in MODELS if model.id not in ids))
        known = [(name, model) for model in self.models for name in (*model.aliases, model.id)]
        self._by_name = dict(reversed(known))

    def find(self, name: object) -> Model | None:
        """Find the model with that id or alias, including retired ones. None: there is none."""
        if not isinstance(name, str):
            return None
        found = self._by_name.get(name)
        return _to_model(name) if found is None and name and self._takes_any else found

    def usable(self, name: object, *, now: datetime) -> Model | None:
        """Find the model with that id or alias. None: it is unknown or retired."""
        model = self.find(name)
        return None if model is None or model.lifecycle(now) == "retired" else model


BUILT_IN = Catalogue()


def _to_model(added: Model | str) -> Model:
    if isinstance(added, Model):
        return added
    named = _NAME.fullmatch(added)
    if named is None:
        return Model(id=added, display_name=added, line=_UNNAMED.line, version=_UNNAMED.version)
    version = (int(named["major"]), int(named["minor"] or 0))
    line = named["line"]
    return Model(
        id=added,
        display_name=f"Claude {line.capitalize()} {version[0]}.{version[1]}",
        line=line,
        version=version,
        extended_output=True,
    )

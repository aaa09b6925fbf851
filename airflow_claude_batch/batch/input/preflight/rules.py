"""Reads the table of what is refused before sending, ``rules.jsonl``: one rule a line.

``refused`` continues the sentence "A request is refused if …". ``source`` is where that is written down, and ``read``
is the day on which that was read. A source is one of:

- a page of platform.claude.com/docs/en, without that beginning
- ``SDK``: the vendor's ``anthropic`` 2.14.0, folder ``types``
- ``OpenAPI``: the vendor's description of the API, as copied in github.com/tryAGI/Anthropic
- ``recorded``: an answer of the API itself
- an address at github.com: a report that quotes the API's error
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of the API."""

    name: str
    refused: str
    source: str
    read: str


@cache
def rules() -> dict[str, Rule]:
    """Return the rules by name, in the order of the table."""
    lines = resources.files(__package__).joinpath("rules.jsonl").read_bytes().splitlines()
    return {rule.name: rule for rule in (msgspec.json.decode(line, type=Rule) for line in lines)}

"""What applies to every request of a submission: the API version, the betas, and whether unknown fields are sent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

#: The newest API version whose rules are known here.
NEWEST_VERSION: Final = "2026-10-21"
#: Betas that change limits or headers only: no parameter and no field comes with them.
_BETAS_WITHOUT_FIELDS: Final = (
    "context-1m-",
    "extended-cache-ttl-",
    "interleaved-thinking-",
    "max-tokens-",
    "message-batches-",
    "model-context-window-exceeded-",
    "oauth-",
    "oidc-federation-",
    "output-128k-",
    "output-300k-",
    "prompt-caching-20",
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The API version and the betas of the create call.

    :param takes_unknown: send parameters, fields and kinds that are not known here. True under a beta that may bring
        some, under a newer API version, and if the connection allows it.
    :param finds_typos: refuse an unknown parameter all the same if its name looks like a misspelt known one.
    """

    api_version: str
    betas: frozenset[str] = frozenset()
    takes_unknown: bool = False
    finds_typos: bool = True

    @property
    def is_interleaved(self) -> bool:
        """Return whether a thinking budget may be larger than one answer."""
        return any(beta.startswith("interleaved-thinking-") for beta in self.betas)


def conditions_of(api_version: str, betas: Collection[str] = (), *, allow_unknown: bool = False) -> Conditions:
    """Decide from the connection whether unknown parameters are sent.

    >>> conditions_of("2026-10-21", ["output-300k-2026-03-24"]).takes_unknown
    False
    >>> conditions_of("2026-10-21", ["context-management-2025-06-27"]).takes_unknown
    True
    """
    brings_fields = any(not beta.startswith(_BETAS_WITHOUT_FIELDS) for beta in betas)
    is_newer = allow_unknown or api_version > NEWEST_VERSION
    return Conditions(api_version, frozenset(betas), is_newer or brings_fields, not is_newer)

"""Recognize platforms that serve Claude without message batches, by their name, their host or their model ids.

Their own batch services take files of another form. Anthropic's SDK refuses message batches on all three: SDK,
lib/bedrock/_client.py, lib/vertex/_client.py, lib/foundry.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from airflow_claude_batch.exceptions import ConfigurationError

BEDROCK: Final = "Amazon Bedrock"
VERTEX: Final = "Vertex AI"
FOUNDRY: Final = "Microsoft Foundry"

#: Names that people give to them, in lower case and with underscores.
_NAMES: Final = {
    **dict.fromkeys(("bedrock", "aws_bedrock", "amazon_bedrock", "anthropic_bedrock", "bedrock_mantle"), BEDROCK),
    **dict.fromkeys(
        ("vertex", "vertex_ai", "vertexai", "google_vertex", "google_vertex_ai", "anthropic_vertex"), VERTEX
    ),
    **dict.fromkeys(
        ("foundry", "azure", "azure_ai", "azure_ai_foundry", "azure_foundry", "microsoft_foundry"), FOUNDRY
    ),
}
_HOSTS: Final = (
    (BEDROCK, r"(?:.*\.)?bedrock[a-z-]*\.[a-z0-9-]+\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
    (VERTEX, r"(?:.*[.-])?aiplatform\.(?:[a-z0-9-]+\.rep\.)?googleapis\.com"),
    (FOUNDRY, r".*\.(?:services\.ai|inference\.ai|openai|cognitiveservices)\.azure\.(?:com|us|cn)"),
)
#: Model ids with what they add to the id of Anthropic's own API, which is the group "model".
_MODELS: Final = (
    (BEDROCK, r"arn:aws[a-z-]*:bedrock:.*?(?:anthropic\.(?P<model>claude-[a-z0-9.-]+?))?(?:-v\d+(?::\d+)?)?"),
    (BEDROCK, r"(?:[a-z]{2,6}(?:-[a-z]+)?\.)?anthropic\.(?P<model>claude-[a-z0-9.-]+?)(?:-v\d+(?::\d+)?)?"),
    (VERTEX, r"(?:.*publishers/anthropic/models/)?(?P<model>claude-[a-z0-9.-]+)@(?:(?P<date>\d{8})|latest|default)"),
    (VERTEX, r".*publishers/anthropic/models/(?P<model>claude-[a-z0-9.-]+)"),
)

#: Where batches can be had, as remedies.
ELSEWHERE: Final = (
    "Message batches run on Anthropic's own API (an API key or a workload identity), on Claude Platform on AWS "
    "(platform aws) and on Google Cloud (platform google). Model ids have no prefix there: claude-opus-5-5."
)


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model id of another platform.

    :param model: its id on Anthropic's API, None if it does not tell.
    """

    platform: str
    model: str | None


def platform_named(name: str) -> str | None:
    """Return the platform without message batches that a name stands for."""
    return _NAMES.get(re.sub(r"[\s-]+", "_", name.strip().lower()))


def platform_at(host: str) -> str | None:
    """Return the platform without message batches that a host belongs to."""
    return next((name for name, pattern in _HOSTS if re.fullmatch(pattern, host.rstrip("."), re.IGNORECASE)), None)


def platform_of_model(model: str) -> ForeignModel | None:
    """Return what a model id says that has the form of a platform without message batches."""
    for platform, pattern in _MODELS:
        if found := re.fullmatch(pattern, model, re.IGNORECASE):
            names = found.groupdict()
            return ForeignModel(platform, "-".join(filter(None, (names["model"], names.get("date")))) or None)
    return None


def no_batches_error(what: str, platform: str) -> ConfigurationError:
    """Build the error for a connection to a platform without message batches.

    :param what: names the field and its value, as the beginning of the sentence.
    """
    return ConfigurationError(f"{what}, and {platform} has no message batches of Claude's.", ELSEWHERE)

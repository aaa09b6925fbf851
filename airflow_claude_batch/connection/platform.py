"""Who serves the API, and where: Anthropic itself, or Claude Platform on AWS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.api.aws_credentials import AWS_SERVICE
from airflow_claude_batch.api.limits import DEFAULT_BASE_URL
from airflow_claude_batch.exceptions import ConfigurationError

# A region becomes part of the host, so it must not bring another one along.
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]{2,20}){1,3}-\d{1,2}")


@dataclass(frozen=True, slots=True)
class Platform:
    """Who serves the API, and what its connections need.

    :param default_url: the base URL of a connection without a host.
    :param url_variable: the environment variable that replaces it.
    :param workspace_id: the workspace that every call names, None if the credential decides.
    """

    name: str
    default_url: str
    url_variable: str
    region: str | None = None
    workspace_id: str | None = None


def read_platform(extra: Mapping[str, Any], environ: Mapping[str, str]) -> Platform:
    """Return the platform of a connection. What it does not name comes from the variables that Anthropic's SDK reads.

    :raises ConfigurationError: its region or its workspace is missing.
    """
    if extra.get("platform", "anthropic") != "aws":
        return Platform("anthropic", DEFAULT_BASE_URL, "ANTHROPIC_BASE_URL", workspace_id=extra.get("workspace_id"))
    region = _region(extra.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"))
    workspace = extra.get("workspace_id") or environ.get("ANTHROPIC_AWS_WORKSPACE_ID")
    if not workspace:
        raise ConfigurationError(
            "platform is aws, but no workspace_id is set.",
            'Add it to extra, from the AWS Console\'s page of Claude Platform on AWS: "workspace_id": "wrkspc_…"',
        )
    url = f"https://{AWS_SERVICE}.{region}.api.aws"
    return Platform("aws", url, "ANTHROPIC_AWS_BASE_URL", region, workspace)


def _region(region: str | None) -> str:
    if not region:
        raise ConfigurationError(
            "platform is aws, but no region is set.",
            'Add the workspace\'s region to extra, as in "region": "us-west-2"',
        )
    if not _REGION.fullmatch(region):
        raise ConfigurationError("region is not a region of AWS.", "Write it as in us-west-2.")
    return region

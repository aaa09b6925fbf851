"""Who serves the API, and where: Anthropic itself, Claude Platform on AWS, or Google Cloud."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.api.aws_credentials import AWS_SERVICE
from airflow_claude_batch.api.google_token import DEFAULT_LOCATION, google_base_url
from airflow_claude_batch.api.limits import DEFAULT_BASE_URL
from airflow_claude_batch.api.other_platforms import no_batches_error, platform_named
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.provider_info import CONNECTION_FIELDS

# A region becomes part of the host, so it must not bring another one along.
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]{2,20}){1,3}-\d{1,2}")

#: The names of platforms in connections.
PLATFORMS: Final[tuple[str, ...]] = tuple(CONNECTION_FIELDS["platform"]["schema"]["enum"])
_OTHER_NAMES: Final = {"google_cloud": "google", "claude_platform_on_aws": "aws", "claude_platform_aws": "aws"}
_GOOGLE_URL: Final = "ANTHROPIC_GOOGLE_CLOUD_BASE_URL"


@dataclass(frozen=True, slots=True)
class Platform:
    """Who serves the API, and what its connections need.

    :param default_url: the base URL of a connection without a host. Empty if there is none.
    :param url_variable: the environment variable that replaces it.
    :param workspace_id: the workspace that every call names, None if the credential decides.
    """

    name: str
    default_url: str
    url_variable: str
    region: str | None = None
    workspace_id: str | None = None


def read_platform_name(value: Any) -> str:
    """Return our name of a platform. Other spellings are read, such as that of the SDK's own name, google_cloud.

    :raises ConfigurationError: it has no message batches, or is none that is known.
    """
    text = shorten(str(value), 40)
    if without := platform_named(str(value)):
        raise no_batches_error(f"platform is {text!r}", without)
    name = re.sub(r"[\s-]+", "_", str(value).strip().lower())
    name = _OTHER_NAMES.get(name, name)
    if name not in PLATFORMS:
        raise ConfigurationError(
            f"platform is {text!r}, which is no platform with message batches of Claude's.",
            f"Remove platform for Anthropic's own API, or write {' or '.join(PLATFORMS[1:])}.",
        )
    return name


def read_platform(
    extra: Mapping[str, Any], environ: Mapping[str, str], *, has_host: bool = False, project: str | None = None
) -> Platform:
    """Return the platform of a connection. What it does not name comes from the variables that Anthropic's SDK reads.

    :param has_host: the connection names a base URL, so that none need be made.
    :param project: the project of its Google credentials.
    :raises ConfigurationError: its region, its project or its workspace is missing.
    """
    match extra.get("platform"):
        case "aws":
            return _aws(extra, environ)
        case "google":
            return _google(extra, environ, has_host=has_host, credentials_project=project)
    return Platform("anthropic", DEFAULT_BASE_URL, "ANTHROPIC_BASE_URL", workspace_id=extra.get("workspace_id"))


def _aws(extra: Mapping[str, Any], environ: Mapping[str, str]) -> Platform:
    region = _region(extra.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"))
    workspace = extra.get("workspace_id") or environ.get("ANTHROPIC_AWS_WORKSPACE_ID")
    if not workspace:
        raise ConfigurationError(
            "platform is aws, but no workspace_id is set.",
            'Add it to extra, from the AWS Console\'s page of Claude Platform on AWS: "workspace_id": "wrkspc_…"',
        )
    url = f"https://{AWS_SERVICE}.{region}.api.aws"
    return Platform("aws", url, "ANTHROPIC_AWS_BASE_URL", region, workspace)


def _google(
    extra: Mapping[str, Any], environ: Mapping[str, str], *, has_host: bool, credentials_project: str | None
) -> Platform:
    """Return the platform, with the base URL of the workspace. The workspace is in its path, and not in a header."""
    values = {
        "project_id": (
            extra.get("project_id")
            or environ.get("ANTHROPIC_GOOGLE_CLOUD_PROJECT")
            or environ.get("GOOGLE_CLOUD_PROJECT")
            or credentials_project
        ),
        "workspace_id": extra.get("workspace_id") or environ.get("ANTHROPIC_GOOGLE_CLOUD_WORKSPACE_ID"),
    }
    missing = [name for name, value in values.items() if not value]
    if missing and not (has_host or environ.get(_GOOGLE_URL)):
        raise ConfigurationError(
            f"platform is google, but no {' and no '.join(missing)} is set.",
            "Add to extra the project of Google Cloud, and the workspace of the Claude Console: "
            '"project_id": "my-project", "workspace_id": "wrkspc_…"',
        )
    location = extra.get("location") or environ.get("ANTHROPIC_GOOGLE_CLOUD_LOCATION") or DEFAULT_LOCATION
    url = "" if missing else google_base_url(str(values["project_id"]), location, str(values["workspace_id"]))
    return Platform("google", url, _GOOGLE_URL)


def _region(region: str | None) -> str:
    if not region:
        raise ConfigurationError(
            "platform is aws, but no region is set.",
            'Add the workspace\'s region to extra, as in "region": "us-west-2"',
        )
    if not _REGION.fullmatch(region):
        raise ConfigurationError("region is not a region of AWS.", "Write it as in us-west-2.")
    return region

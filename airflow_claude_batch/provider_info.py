"""What Airflow learns about this package when it discovers its providers.

Airflow calls ``get_provider_info`` in every process, before its own configuration exists: this module
imports nothing. The fields of a connection are written here once; the hook's form methods (Airflow 3.0 and
3.1) and the reading of connections take them from here.
"""

from __future__ import annotations

from typing import Any


def _field(label: str, type_: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "schema": {"type": [type_, "null"], **schema}, "description": description}


#: Keys of the connection's extra, in the order of the form.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "model": _field("Default model", "string", "Used when a task names no model."),
    "auth": _field(
        "API key header",
        "string",
        "bearer (default): 'Authorization: Bearer'. x-api-key: for gateways that only know the older header.",
        enum=["bearer", "x-api-key"],
    ),
    "auth_token": _field("Bearer token", "string", "An access token instead of an API key.", format="password"),
    "federation_rule_id": _field("Federation rule", "string", "Workload Identity Federation (no stored key): fdrl_…"),
    "organization_id": _field("Organization", "string", "Workload Identity Federation: the organization's id."),
    "service_account_id": _field("Service account", "string", "Workload Identity Federation: svac_…"),
    "identity_token_file": _field(
        "Identity token file",
        "string",
        "Workload Identity Federation: path of the OIDC token on the workers, read at every exchange.",
    ),
    "identity_token": _field(
        "Identity token", "string", "Workload Identity Federation: the OIDC token itself.", format="password"
    ),
    "workspace_id": _field(
        "Workspace", "string", "wrkspc_…; needed when the credential can act in more than one workspace."
    ),
    "user_profile_id": _field(
        "User profile", "string", "Attributes every request to this end party (anthropic-user-profile-id)."
    ),
    "api_version": _field("API version", "string", "The anthropic-version header. Default: 2026-10-21."),
    "betas": _field("Betas", "string", "Names for the anthropic-beta header, separated by commas."),
    "headers": _field("Extra headers", "object", 'For gateways: {"X-Team": "data"}.'),
    "proxy": _field("Proxy", "string", "URL of the proxy for this connection's calls."),
    "ca_file": _field("CA file", "string", "Path of the certificate bundle to trust instead of the public ones."),
    "verify": _field(
        "Verify certificates",
        "boolean",
        "Leave on. Off only to find out whether certificates are the trouble.",
        default=True,
    ),
    "connect_timeout": _field("Connect timeout", "number", "Seconds.", exclusiveMinimum=0),
    "read_timeout": _field("Read timeout", "number", "Seconds without a byte of the answer.", exclusiveMinimum=0),
    "write_timeout": _field(
        "Write timeout", "number", "Seconds without a byte of the request taken.", exclusiveMinimum=0
    ),
    "max_retries": _field(
        "Max retries",
        "integer",
        "Repeats of a call that is safe to repeat; a create is never repeated blindly.",
        minimum=0,
    ),
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "port", "login"],
    "relabeling": {"password": "API key", "host": "Base URL"},
    "placeholders": {
        "host": "https://api.anthropic.com",
        "password": "sk-ant-… (empty: the environment's ANTHROPIC_API_KEY or identity)",
    },
}


def _option(type_: str, description: str, *, default: str | None, example: str | None) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": type_,
        "default": default,
        "example": example,
    }


_CONFIG_OPTIONS: dict[str, dict[str, Any]] = {
    "results_path": _option(
        "string",
        "Folder under which every submission keeps its requests, results and manifest: any URI that "
        "ObjectStoragePath takes, shared by all workers. Empty: claude_batch under AIRFLOW_HOME, which suits "
        "a single machine.\n",
        default=None,
        example="s3://aws_default@my-bucket/claude-batch",
    ),
    "poll_interval": _option(
        "float",
        "Seconds between two looks at a running message batch, when the task does not say.\n",
        default="60",
        example=None,
    ),
    "max_inline_bytes": _option(
        "integer",
        "Rows travel in the manifest, through XCom, while they fit this many bytes; above it the manifest "
        "has only their path.\n",
        default="49152",
        example=None,
    ),
    "max_cost_per_submission": _option(
        "float",
        "US dollars. A task whose estimate is above it fails before anything is sent; a task's own max_cost "
        "can only be lower. Empty: no limit.\n",
        default=None,
        example="250",
    ),
    "prices_path": _option(
        "string",
        "A JSON file in the form of the package's prices.json; its entries replace the bundled ones.\n",
        default=None,
        example="/opt/airflow/config/claude_prices.json",
    ),
    "prices": _option(
        "string",
        "The same as JSON text, for a deployment that has no place for a file; its entries replace those of "
        "prices_path.\n",
        default=None,
        example='{"models": {"claude-opus-5-5": {"rates": {"input": "3.60"}}}}',
    ),
}


def _modules(kind: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Claude", "python-modules": [f"airflow_claude_batch.{kind}"]}]


def get_provider_info() -> dict[str, Any]:
    """Describe the package to Airflow's ProvidersManager (schema: airflow/provider_info.schema.json)."""
    return {
        "package-name": "airflow-claude-batch",
        "name": "Claude Batch",
        "description": "Claude's Message Batches API: every request paid for once, every answer in order.",
        "integrations": [
            {
                "integration-name": "Claude",
                "external-doc-url": "https://platform.claude.com/docs/en/build-with-claude/batch-processing",
                "tags": ["ai"],
            }
        ],
        "hooks": _modules("hooks"),
        "operators": _modules("operators"),
        "sensors": _modules("sensors"),
        "triggers": _modules("triggers"),
        "task-decorators": [
            {"name": "claude_batch", "class-name": "airflow_claude_batch.decorators.claude_batch_task"}
        ],
        "connection-types": [
            {
                "connection-type": "claude",
                "hook-class-name": "airflow_claude_batch.hooks.ClaudeHook",
                "hook-name": "Claude",
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
        "config": {
            "claude_batch": {
                "description": "Settings of the Claude Batch provider (airflow-claude-batch).",
                "options": _CONFIG_OPTIONS,
            }
        },
    }

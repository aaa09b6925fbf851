"""Describe this package to Airflow: connection form, configuration options, modules.

Airflow calls ``get_provider_info`` in every process, before its own configuration exists. So this module imports
nothing. The fields of a connection are defined here only: the hook's form methods (Airflow 3.0 and 3.1) and the reading
of connections use this definition.
"""

from __future__ import annotations

from typing import Any


def _field(label: str, type_: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "schema": {"type": [type_, "null"], **schema}, "description": description}


#: Fields of the connection's extra, in the order of the form.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "model": _field("Default model", "string", "The model of tasks that name none."),
    "auth": _field(
        "API key header",
        "string",
        "bearer (default) sends 'Authorization: Bearer'. x-api-key is for gateways that need the older header.",
        enum=["bearer", "x-api-key"],
    ),
    "auth_token": _field("Bearer token", "string", "An access token to use instead of an API key.", format="password"),
    "federation_rule_id": _field(
        "Federation rule", "string", "Workload Identity Federation, without a stored key: the id of the rule, fdrl_…"
    ),
    "organization_id": _field("Organization", "string", "Workload Identity Federation: the id of the organization."),
    "service_account_id": _field(
        "Service account", "string", "Workload Identity Federation: the id of the service account, svac_…"
    ),
    "identity_token_file": _field(
        "Identity token file",
        "string",
        "Workload Identity Federation: the path of the OIDC token on workers and triggerers. It is read at every "
        "exchange.",
    ),
    "identity_token": _field(
        "Identity token", "string", "Workload Identity Federation: the OIDC token itself.", format="password"
    ),
    "workspace_id": _field(
        "Workspace",
        "string",
        "The id of the workspace. Needed if the credential can act in several workspaces: wrkspc_…",
    ),
    "platform": _field(
        "Platform",
        "string",
        "anthropic (default), aws for Claude Platform on AWS, or google for Google Cloud. aws needs Region and "
        "Workspace, google needs Project and Workspace.",
        enum=["anthropic", "aws", "google"],
    ),
    "region": _field(
        "Region", "string", "Claude Platform on AWS: the region of the workspace. Default: AWS_REGION on the workers."
    ),
    "aws_conn_id": _field(
        "AWS connection",
        "string",
        "Claude Platform on AWS: the Airflow connection of type aws whose keys or role sign the calls. Default: the "
        "role of workers and triggerers.",
    ),
    "project_id": _field(
        "Project",
        "string",
        "Google Cloud: the id of the project. Default: GOOGLE_CLOUD_PROJECT on the workers, or the credentials' own.",
    ),
    "location": _field("Location", "string", "Google Cloud: the location of the API. Default: global."),
    "gcp_conn_id": _field(
        "Google connection",
        "string",
        "Google Cloud: the Airflow connection of type google_cloud_platform whose account makes the calls. Default: "
        "the account of workers and triggerers.",
    ),
    "keyfile_dict": _field(
        "Keyfile JSON", "string", "Google Cloud: the content of a service account's key file.", format="password"
    ),
    "user_profile_id": _field(
        "User profile", "string", "The end user to whom all requests are attributed (header anthropic-user-profile-id)."
    ),
    "api_version": _field("API version", "string", "The header anthropic-version. Default: 2026-10-21."),
    "betas": _field("Betas", "string", "Values of the header anthropic-beta, separated by commas."),
    "headers": _field("Extra headers", "object", 'Headers to add to every call, for gateways: {"X-Team": "data"}'),
    "proxy": _field(
        "Proxy", "string", "The URL of the proxy for the calls of this connection. Default: the environment's proxy."
    ),
    "ca_file": _field("CA file", "string", "The path of the certificates to trust instead of the public ones."),
    "verify": _field(
        "Verify certificates",
        "boolean",
        "Leave this on. Turn it off only to find out whether certificates are the problem.",
        default=True,
    ),
    "allow_http": _field(
        "Allow plain http",
        "boolean",
        "Send the credential and all requests to an http:// host without encryption. Only for a test server or a "
        "gateway on a network that you trust. It does not count for Anthropic's own hosts.",
        default=False,
    ),
    "allow_unknown_parameters": _field(
        "Allow unknown parameters",
        "boolean",
        "Send parameters, fields and kinds that this version of the package does not know, instead of refusing them. "
        "For features of the API or of a gateway that are newer.",
        default=False,
    ),
    "connect_timeout": _field(
        "Connect timeout", "number", "Seconds to wait for a connection. Default: 10.", exclusiveMinimum=0
    ),
    "read_timeout": _field(
        "Read timeout", "number", "Seconds to wait for the next bytes of a response. Default: 600.", exclusiveMinimum=0
    ),
    "write_timeout": _field(
        "Write timeout",
        "number",
        "Seconds to wait until the next bytes of a request are sent. Default: 30.",
        exclusiveMinimum=0,
    ),
    "max_retries": _field(
        "Max retries",
        "integer",
        "How often a failed call is sent again. Default: 4. A call that could be billed twice is never sent again.",
        minimum=0,
    ),
    "max_batch_bytes": _field(
        "Max batch bytes",
        "integer",
        "The largest body of a create call in bytes, for gateways that accept less than the API. More are sent as "
        "several message batches.",
        minimum=4096,
    ),
    "max_batch_requests": _field(
        "Max batch requests",
        "integer",
        "How many requests one message batch may have, for gateways that accept fewer than the API.",
        minimum=1,
    ),
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "port", "login"],
    "relabeling": {"password": "API key", "host": "Base URL"},
    "placeholders": {
        "host": "https://api.anthropic.com",
        "password": "sk-ant-… (if empty, the credential comes from the environment, such as ANTHROPIC_API_KEY)",
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
        "The folder in which every submission keeps its requests, results and manifest. Any URI that ObjectStoragePath "
        "accepts. All workers must share it. If empty, claude_batch under AIRFLOW_HOME, which suits a single "
        "machine.\n",
        default=None,
        example="s3://aws_default@my-bucket/claude-batch",
    ),
    "require_shared_results": _option(
        "boolean",
        "Send nothing while results_path is not set and the executor may run tasks on several machines: these do not "
        "share the default folder under AIRFLOW_HOME. Before Airflow 3.3 the record of what was sent is there, and a "
        "retry without it pays again.\n",
        default="False",
        example="True",
    ),
    "results_mode": _option(
        "string",
        "The octal mode of the files below results_path, if it is on a disk. They hold prompts and answers. Folders "
        "get the same mode with the right to enter them. Set 0660 if workers run as several users of one group. "
        "Existing folders are left as they are.\n",
        default="0600",
        example="0660",
    ),
    "allow_connection_token_files": _option(
        "boolean",
        "Let a connection name an identity token file even if it names a host, a proxy or certificates, too. Then "
        "whoever may edit connections can have any file of a worker sent anywhere. Without this, such a file is read "
        "for Anthropic's own host only, or for ANTHROPIC_BASE_URL.\n",
        default="False",
        example=None,
    ),
    "poll_interval": _option(
        "float",
        "The longest time between two polls of a running message batch, in seconds, for tasks that set none.\n",
        default="60",
        example=None,
    ),
    "lost_create_grace": _option(
        "float",
        "Seconds to search for the message batch of a create call that got no response, before its requests are sent "
        "again. If empty, 3600, and more for connections with a read timeout above 600. A shorter time risks that a "
        "batch which becomes visible late is paid for twice.\n",
        default=None,
        example="7200",
    ),
    "max_batch_bytes": _option(
        "integer",
        "The largest body of a create call in bytes, for gateways that accept less than the API's 250,000,000. More "
        "are sent as several message batches. The connection's own max_batch_bytes can only be lower.\n",
        default=None,
        example="10000000",
    ),
    "max_batch_requests": _option(
        "integer",
        "How many requests one message batch may have, for gateways that accept fewer than the API's 100,000. The "
        "connection's own max_batch_requests can only be lower.\n",
        default=None,
        example="10000",
    ),
    "max_inline_bytes": _option(
        "integer",
        "The manifest, which goes to XCom, contains the rows themselves if they fit into this many bytes. Otherwise it "
        "has only their path.\n",
        default="49152",
        example=None,
    ),
    "answer_store": _option(
        "string",
        "The path or URI of the answer store of tasks that name none: requests that earlier runs have asked are not "
        "sent again. If empty, such tasks have no answer store.\n",
        default=None,
        example="s3://aws_default@my-bucket/answers",
    ),
    "max_cost_per_submission": _option(
        "float",
        "The limit of a task's estimated cost, in US dollars. A task above it fails before anything is sent. A task's "
        "own max_cost can only be lower. If empty, there is no limit.\n",
        default=None,
        example="250",
    ),
    "max_cost_per_day": _option(
        "float",
        "The limit of what all submissions of one day (UTC) may cost together, in US dollars: what was billed, and "
        "open submissions at their upper bound. A submission without room in it fails before anything is sent, and a "
        "retry checks again. All workers must share results_path. If empty, there is no limit.\n",
        default=None,
        example="500",
    ),
    "max_cost_per_dag_per_day": _option(
        "float",
        "The same limit for the submissions of each DAG. If empty, there is no limit.\n",
        default=None,
        example="50",
    ),
    "prices_path": _option(
        "string",
        "The path of a JSON file in the format of the package's prices.json. Its entries replace the bundled ones.\n",
        default=None,
        example="/opt/airflow/config/claude_prices.json",
    ),
    "prices": _option(
        "string",
        "The content of such a file as JSON text, for deployments without a place for a file. Its entries replace "
        "those of prices_path.\n",
        default=None,
        example='{"models": {"claude-opus-5-5": {"rates": {"input": "3.60"}}}}',
    ),
}


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Claude", "python-modules": [f"airflow_claude_batch.{name}" for name in names]}]


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
        "triggers": _modules("triggers", "events"),
        "transfers": [
            {
                "source-integration-name": "Claude",
                "target-integration-name": "Common SQL",
                "python-module": "airflow_claude_batch.transfers",
            }
        ],
        "cli": ["airflow_claude_batch.cli.get_commands"],
        "extra-links": ["airflow_claude_batch._airflow.links.ClaudeBatchLink"],
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
                "description": "Settings of the Claude Batch provider, airflow-claude-batch.",
                "options": _CONFIG_OPTIONS,
            }
        },
    }

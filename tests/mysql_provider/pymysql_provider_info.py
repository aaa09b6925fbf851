"""Describes the provider of ``pymysql_hook`` to Airflow, which reads this while it is being imported itself."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's connection type."""
    return {
        "package-name": "pymysql-provider-of-tests",
        "name": "PyMySQL",
        "description": "MySQL for tests",
        "versions": ["1.0"],
        "connection-types": [
            {
                "connection-type": "pymysql",
                "hook-class-name": "pymysql_hook.PyMySqlHook",
                "hook-name": "PyMySQL",
            }
        ],
    }

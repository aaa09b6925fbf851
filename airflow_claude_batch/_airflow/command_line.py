"""Import what the package takes from Airflow's command line."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

__all__ = ["ActionCommand", "Arg", "GroupCommand"]

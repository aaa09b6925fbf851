"""Refuse actions that another site makes a signed-in user's browser ask for (cross-site request forgery).

The browser adds Airflow's cookie to such a request by itself. So an action needs what another site cannot send: a
header of the script of these pages, and an origin that is Airflow's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from airflow_claude_batch._airflow.api_server import base_url
from airflow_claude_batch.web.access import UserAccess

#: The script sends it. A site elsewhere would have to ask Airflow first whether it may, and is told no.
ACTION_HEADER: Final = "X-Claude-Batch-Action"


def refuse_cross_site(request: Request, _: UserAccess) -> None:
    """Check that a user's action was asked for on one of these pages, or by a client that is no browser.

    :raises HTTPException: 403 if not.
    """
    hosts = {request.headers.get("host", ""), urlsplit(base_url()).netloc} - {""}
    if problem := cross_site_problem(request.headers, hosts):
        raise HTTPException(403, problem)


def cross_site_problem(headers: Mapping[str, str], own_hosts: Collection[str]) -> str | None:
    """Return why a request may come from another site, None if it does not.

    :param headers: names are lower case, or compared without case.
    :param own_hosts: hosts, with ports, under which Airflow is served.
    """
    if headers.get("authorization", "").lower().startswith("bearer "):
        return None  # no browser adds a token by itself
    if not headers.get(ACTION_HEADER.lower()):
        return f"Nothing was done: the request has no header {ACTION_HEADER}, which the script of the page adds."
    site = headers.get("sec-fetch-site")  # sent to https and to loopback only
    if site is not None:
        return None if site == "same-origin" else f"Nothing was done: the request comes from another site ({site})."
    origin = headers.get("origin")
    if origin is None or _host_of(origin) in own_hosts:
        return None
    return f"Nothing was done: the request comes from {origin}, and Airflow is at {' or '.join(sorted(own_hosts))}."


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return ""

"""Answer a browser with a page where something is wrong, and other clients with JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from airflow_claude_batch._airflow.api_server import COOKIE_SUPPORTED
from airflow_claude_batch.web.templating import render_page


def add_error_pages(app: FastAPI) -> None:
    """Let an application answer errors as this module does."""
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_wrong_address)


async def _on_http_error(request: Request, error: Any) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    if error.status_code == HTTPStatus.UNAUTHORIZED and "authorization" not in request.headers:
        return _ask_who_it_is(request, error)
    return _page(error.status_code, str(error.detail), error.headers)


async def _on_wrong_address(request: Request, error: Any) -> Response:
    """Name what is missing or wrong in the address. FastAPI's own answer would be a list of JSON."""
    names = sorted({str(each["loc"][-1]) for each in error.errors()})
    wrong = HTTPException(HTTPStatus.BAD_REQUEST, f"The address is not complete, or wrong at: {', '.join(names)}.")
    return await _on_http_error(request, wrong)


def _ask_who_it_is(request: Request, error: HTTPException) -> HTMLResponse:
    """Return a page without data. On Airflow 3.0 its script asks again with the token of Airflow's UI."""
    html = render_page("sign_in.html.j2", has_cookie=COOKIE_SUPPORTED, next=_own_address(request))
    return HTMLResponse(html, error.status_code, error.headers)


def _own_address(request: Request) -> str:
    """Return the path and query of the request, which the sign-in leads back to."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _page(status: int, detail: str, headers: Any = None) -> HTMLResponse:
    html = render_page("error.html.j2", title=HTTPStatus(status).phrase, detail=detail)
    return HTMLResponse(html, status, headers)

"""The application that Airflow's api-server mounts at ``/claude-batch``."""

from __future__ import annotations

from fastapi import FastAPI

from airflow_claude_batch.web import cancel_page, clear_page, overview, static_files, submission_page
from airflow_claude_batch.web.errors import add_error_pages
from airflow_claude_batch.web.security_headers import SecurityHeaders


def create_app() -> FastAPI:
    """Return the application: an overview of submissions, and a page for each of them."""
    app = FastAPI(title="Claude batches", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SecurityHeaders)
    app.include_router(overview.router)
    app.include_router(submission_page.router)
    app.include_router(cancel_page.router)
    app.include_router(clear_page.router)
    app.include_router(static_files.router)
    add_error_pages(app)
    return app

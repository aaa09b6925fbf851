"""The style sheet and the script of the pages. They hold no data, so everybody may read them."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, HTTPException, Response

from airflow_claude_batch.web.templating import environment

router = APIRouter()

_MEDIA_TYPES: Final = {"page.css": "text/css", "page.js": "text/javascript"}
#: Their addresses change with their content.
_HEADERS: Final = {"Cache-Control": "public, max-age=86400"}


@router.get("/static/{name}")
def send_static_file(name: str) -> Response:
    """Return a file by its name. Only the two that there are can be asked for."""
    if name not in _MEDIA_TYPES:
        raise HTTPException(404, "There is no such file.")
    return Response(environment().get_template(name).render(), media_type=_MEDIA_TYPES[name], headers=_HEADERS)

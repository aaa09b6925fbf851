from __future__ import annotations

import pytest
from faces import AsyncFace, SyncFace
from hypothesis import settings

# An example may take its time on a busy machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(params=[SyncFace, AsyncFace], ids=["sync", "async"])
def face(request):
    """The class of a client: every test that asks for it runs with both."""
    return request.param

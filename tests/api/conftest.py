from __future__ import annotations

import pytest
from clients import AsyncClientAdapter, SyncClient
from hypothesis import settings

# An example may take its time on a busy machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(params=[SyncClient, AsyncClientAdapter], ids=["sync", "async"])
def client_class(request):
    """The class of a client: every test that asks for it runs with both, if no mark says otherwise."""
    return request.param

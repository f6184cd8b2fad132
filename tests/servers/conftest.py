"""The server and the registry of a test, on every kind of server."""

import pytest

from morpheus.registry import Registry, locked, turns
from tests.servers.fixtures import SERVERS, own_folder
from tests.servers.others import LOCK_TIMEOUT
from tests.servers.webdav import WebDav


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> WebDav:
    server: WebDav = request.getfixturevalue(request.param)
    return own_folder(server)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locked, "LOCK_TIMEOUT", LOCK_TIMEOUT)
    monkeypatch.setattr(turns, "TURN_PATIENCE", 0.2)


@pytest.fixture
def registry(server: WebDav) -> Registry:
    return Registry(server.store())

"""The servers, started once each when the first test asks; every test works in a folder of its own there."""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.proxy import Proxy
from tests.servers.webdav import WebDav, apache, wsgidav

# All in make test-servers: make test meets WsgiDAV with the contract of stores and with its answers.
SERVERS = [
    pytest.param(each, marks=pytest.mark.servers)
    for each in ("apache", "apache_without_locks", "wsgidav_server")
]


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that Apache's own user can pass through, unlike pytest's, when root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="morpheus-apache-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session", name="apache")
def apache_server() -> Iterator[WebDav]:
    with open_folder() as folder, apache(folder / "server") as server:
        yield server


@pytest.fixture(scope="session")
def apache_without_locks() -> Iterator[WebDav]:
    with open_folder() as folder, apache(folder / "server", locks=False) as server:
        yield server


@pytest.fixture(scope="session")
def wsgidav_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDav]:
    with wsgidav(tmp_path_factory.mktemp("wsgidav") / "server") as server:
        yield server


def own_folder(server: WebDav) -> WebDav:
    """The server as seen by one test: below a collection that nobody has made yet."""
    return replace(server, folder=f"{uuid.uuid4().hex}/")


@pytest.fixture
def proxy(server: WebDav) -> Iterator[Proxy]:
    """A way to the test's *server* on which requests fail as the test schedules it."""
    with Proxy(server.port).running() as running:
        yield running

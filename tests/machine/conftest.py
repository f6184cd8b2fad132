"""Folders with programs in them, all of which end with their test."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from morpheus.forest import Ports
from morpheus.machine import Program, binaries, processes
from morpheus.machine.local import is_free
from morpheus.machine.ssh import Connections, SshMachine
from tests.servers.sshd import Sshd, sshd
from tests.servers.wire import Wire

NAME = "sleeper"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "node"
    folder.mkdir()
    yield folder
    processes.stop(folder, NAME, timeout=1)


@pytest.fixture(scope="session")
def nats_server() -> str:
    return str(binaries.nats_server(None, Path("/nowhere"), "").path)


@pytest.fixture
def first() -> Ports:
    """Ports from which on at least a dozen are free, for nobody else: tests may run twice at a time."""
    return free_ports()


def free_ports() -> Ports:
    while True:
        k = random.randrange(5000)
        ports = Ports(10_000 + k, 16_000 + k, 22_000 + k)
        numbers = (ports.client, ports.cluster, ports.monitor)
        if all(is_free(number + k) for number in numbers for k in range(12)):
            return ports


def shell(script: str) -> Program:
    return Program(NAME, ("/bin/sh", "-c", script))


def python(script: str) -> Program:
    return Program(NAME, (sys.executable, "-c", script))


def wait_for(claim: Callable[[], object], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd of the test's own."""
    with sshd(tmp_path / "sshd") as running:
        yield running


@pytest.fixture
def connections(server: Sshd) -> Iterator[Connections]:
    with Connections(server.key) as opened:
        yield opened


@pytest.fixture
def entered(server: Sshd, connections: Connections) -> SshMachine:
    """The machine behind the test's sshd."""
    return server.machine(connections)


@pytest.fixture
def wire(server: Sshd) -> Iterator[Wire]:
    """A way to the test's sshd that can be cut."""
    with Wire(server.port).running() as running:
        yield running

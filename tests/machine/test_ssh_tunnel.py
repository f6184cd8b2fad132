"""A machine's ports, reached through its SSH connection; and what its programs print, as they print it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import nats
import psutil
import pytest

from morpheus.errors import MachineError, UnreachableError
from morpheus.machine import NATS, Program, processes
from morpheus.machine.ssh import Connections, SshMachine
from tests.machine.conftest import free_ports, wait_for
from tests.servers import free_port
from tests.servers.sshd import Sshd
from tests.servers.wire import Wire

pytestmark = pytest.mark.servers


@pytest.fixture
def nats_port(nats_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a NATS server."""
    port, place = free_ports().client, tmp_path_factory.mktemp("nats")
    processes.start(place, Program(NATS, (nats_server, "-a", "127.0.0.1", "-p", str(port)), ports=(port,)))
    wait_for(lambda: _listens(port))
    yield port
    processes.stop(place, NATS)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


async def _talk(host: str, port: int) -> bytes:
    client = await nats.connect(f"nats://{host}:{port}", allow_reconnect=False)
    heard = await client.subscribe("oak")
    await client.publish("oak", b"x" * 500_000)
    message = await heard.next_msg(timeout=10)
    await client.close()
    return bytes(message.data)


def test_nats_is_reached_through_a_tunnel(entered: SshMachine, nats_port: int) -> None:
    with entered.forward(nats_port) as (host, port):
        assert port != nats_port
        assert asyncio.run(_talk(host, port)) == b"x" * 500_000


def test_many_tunnels_work_at_once(entered: SshMachine, nats_port: int) -> None:
    def talk(_: int) -> int:
        with entered.forward(nats_port) as (host, port):
            return len(asyncio.run(_talk(host, port)))

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(talk, range(20))) == [500_000] * 20


def test_a_tunnel_carries_many_connections(entered: SshMachine, nats_port: int) -> None:
    async def talk_all(host: str, port: int) -> list[bytes]:
        return await asyncio.gather(*(_talk(host, port) for _ in range(20)))

    with entered.forward(nats_port) as address:
        assert len(asyncio.run(talk_all(*address))) == 20


def test_a_tunnel_outlives_its_connection(
    server: Sshd, connections: Connections, wire: Wire, nats_port: int
) -> None:
    machine = server.machine(connections, port=wire.port)

    with machine.forward(nats_port) as (host, port):
        asyncio.run(_talk(host, port))
        wire.cut()
        assert asyncio.run(_talk(host, port)) == b"x" * 500_000


def test_a_port_on_which_nobody_listens_ends_the_connection(entered: SshMachine) -> None:
    with entered.forward(free_port()) as address, socket.create_connection(address, timeout=5) as plug:
        assert plug.recv(1) == b""


def test_a_machine_that_does_not_answer_ends_the_connection(server: Sshd, connections: Connections) -> None:
    machine = server.machine(connections, port=free_port())

    with machine.forward(4222) as address, socket.create_connection(address, timeout=5) as plug:
        assert plug.recv(1) == b""


def test_a_closed_tunnel_is_gone(entered: SshMachine, nats_port: int) -> None:
    with entered.forward(nats_port) as address:
        plug = socket.create_connection(address, timeout=5)
        assert plug.recv(4) == b"INFO"

    with plug:
        plug.settimeout(5)
        with contextlib.suppress(ConnectionResetError):  # or an end in peace
            while plug.recv(1000):
                pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_lines_come_as_they_are_printed(entered: SshMachine) -> None:
    lines = entered.lines("/bin/sh", "-c", "echo one; sleep 0.3; printf 'two\\nthr'; echo ee; printf end")

    began = time.monotonic()
    assert next(lines) == "one"
    first = time.monotonic() - began
    assert list(lines) == ["two", "three", "end"]
    assert time.monotonic() - began - first > 0.2


def test_closing_the_lines_ends_the_command(entered: SshMachine) -> None:
    lines = entered.lines("/bin/sh", "-c", "echo $$; while :; do echo more; sleep 0.01; done")
    pid = int(next(lines))

    lines.close()  # type: ignore[attr-defined]  # it is a generator

    wait_for(lambda: not _runs(pid))


def test_who_does_not_read_holds_the_command_back(entered: SshMachine) -> None:
    lines = entered.lines("/bin/sh", "-c", "seq 3000000; echo done >&2")

    assert [next(lines) for _ in range(3)] == ["1", "2", "3"]
    assert sum(1 for _ in lines) == 3_000_000 - 3


def test_a_command_that_fails_is_an_error_after_its_lines(entered: SshMachine) -> None:
    lines = entered.lines("/bin/sh", "-c", "echo one; echo bad >&2; exit 4")

    assert next(lines) == "one"
    with pytest.raises(MachineError, match="ended with 4: bad"):
        next(lines)


def test_lines_of_a_lost_connection_end_with_an_error(
    server: Sshd, connections: Connections, wire: Wire
) -> None:
    lines = server.machine(connections, port=wire.port).lines("/bin/sh", "-c", "echo one; sleep 60")
    assert next(lines) == "one"

    wire.cut()

    with pytest.raises(UnreachableError, match="was lost"):
        next(lines)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

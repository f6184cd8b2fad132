"""Entering a machine by SSH: who is let in, who is refused, and that each refusal has its own words."""

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from morpheus.errors import MachineError, RefusedError, UnreachableError
from morpheus.machine.ssh import Connections, SshMachine, Way, fingerprint, opening
from morpheus.machine.ssh.opening import Bounds, Shut, ShutError
from tests.servers import free_port
from tests.servers.sshd import Sshd, make_host_key, new_key, sshd
from tests.servers.wire import Wire

STRANGER = new_key()[1]


def why(machine: SshMachine, bounds: Bounds | None = None) -> Shut:
    with pytest.raises(ShutError) as shut:
        machine.connection.attempt(machine.way, bounds or Bounds())
    return shut.value.why


@pytest.mark.servers
def test_a_machine_is_entered_with_the_forests_key(entered: SshMachine) -> None:
    assert entered.run("echo", "here") == "here\n"


@pytest.mark.servers
def test_a_machine_is_entered_over_ipv6(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd", "::1") as server, Connections(server.key) as connections:
        assert server.machine(connections).run("echo", "here") == "here\n"


@pytest.mark.servers
def test_another_host_key_stops_everything_and_is_explained(server: Sshd, connections: Connections) -> None:
    machine = server.machine(connections, host_keys=(STRANGER,))

    with pytest.raises(RefusedError) as refused:
        machine.run("true")

    text = str(refused.value)
    assert f"expected {fingerprint(STRANGER)}, got {fingerprint(server.host_key)}" in text
    assert "rebuilt" in text
    assert "stands between" in text
    assert "console" in text


@pytest.mark.servers
def test_another_host_key_is_asked_for_once(server: Sshd, connections: Connections, wire: Wire) -> None:
    machine = server.machine(connections, host_keys=(STRANGER,), port=wire.port)

    with pytest.raises(RefusedError):
        machine.put(machine.layout.config, b"secret")

    assert wire.accepted == 1


@pytest.mark.servers
def test_two_keys_are_accepted_whichever_is_shown(server: Sshd, connections: Connections) -> None:
    first = server.machine(connections, host_keys=(STRANGER, server.host_key))
    second = server.machine(connections, host_keys=(server.host_key, STRANGER))

    assert first.run("echo", "here") == second.run("echo", "here") == "here\n"


@pytest.mark.servers
def test_an_open_connection_is_no_way_in_for_who_accepts_another_key(
    server: Sshd, connections: Connections
) -> None:
    server.machine(connections).run("true")

    with pytest.raises(RefusedError):
        server.machine(connections, host_keys=(STRANGER,)).run("true")


@pytest.mark.servers
def test_a_machine_without_an_ed25519_key_is_another_machine(server: Sshd, entered: SshMachine) -> None:
    server.stop()
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    (server.folder / "ssh_host_ed25519_key").write_bytes(key.export_private_key())
    server.start()

    with pytest.raises(RefusedError, match="shows another host key"):
        entered.run("true")


@pytest.mark.servers
def test_what_the_user_knows_of_hosts_is_not_asked(
    server: Sshd, connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    (home / "config").write_text("Host *\n  StrictHostKeyChecking no\n  Port 1\n  User nobody\n")
    monkeypatch.setenv("HOME", str(home.parent))

    assert server.machine(connections).run("echo", "here") == "here\n"
    with pytest.raises(RefusedError):
        server.machine(connections, host_keys=(STRANGER,)).run("true")


@pytest.mark.servers
def test_the_users_own_keys_are_not_offered(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "id_ed25519").write_text(server.key.get_secret_value())
    (home / "id_ed25519").chmod(0o600)
    monkeypatch.setenv("HOME", str(home.parent))

    with Connections(new_key()[0]) as connections:
        assert why(server.machine(connections)) is Shut.KEY_REFUSED


@pytest.mark.servers
def test_a_refused_key_is_an_error_of_its_own(server: Sshd) -> None:
    refused = pytest.raises(MachineError, match="does not accept the forest's SSH key")
    with Connections(new_key()[0]) as connections, refused:
        server.machine(connections).run("true")


def stranger(port: int, address: str = "127.0.0.1") -> Way:
    return Way(address, (STRANGER,), port)


@pytest.fixture
def anybody() -> Iterator[Connections]:
    with Connections(new_key()[0]) as connections:
        yield connections


def test_a_closed_port_refuses(anybody: Connections) -> None:
    machine = SshMachine("oak-node-1", anybody, stranger(free_port()))

    assert why(machine) is Shut.REFUSED
    with pytest.raises(UnreachableError, match=r"oak-node-1 \(127\.0\.0\.1:\d+\) refuses SSH connections"):
        machine.run("true")


def test_a_server_that_says_nothing_is_told_from_one_that_is_not_there(anybody: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine = SshMachine("oak-node-1", anybody, stranger(silent.getsockname()[1]))

        assert why(machine, Bounds(banner=0.1)) is Shut.NO_BANNER


def _hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def test_a_server_that_hangs_up_is_told_from_one_that_says_nothing(anybody: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        thread = threading.Thread(target=_hang_up, args=(rude,))
        thread.start()

        assert why(SshMachine("oak-node-1", anybody, stranger(rude.getsockname()[1]))) is Shut.CUT
        thread.join()


def test_a_full_queue_is_silence(anybody: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        port = full.getsockname()[1]
        for _ in range(3):  # what fills the queue
            plug = stack.enter_context(socket.socket())
            plug.setblocking(False)
            plug.connect_ex(("127.0.0.1", port))

        assert why(SshMachine("oak-node-1", anybody, stranger(port)), Bounds(connect=0.1)) is Shut.SILENT


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_network_without_ipv6_is_called_so(number: int) -> None:
    way = replace(stranger(22), address="2001:db8::1")

    with pytest.raises(ShutError, match="This network has no IPv6") as shut:
        opening._tell_unplugged("oak-node-1", way, OSError(number, "no way"), 6)

    assert shut.value.why is Shut.NO_IPV6
    assert isinstance(shut.value.error, UnreachableError)


def test_an_ipv4_network_that_is_unreachable_has_no_route() -> None:
    with pytest.raises(ShutError, match="cannot be reached: network is unreachable") as shut:
        opening._tell_unplugged(
            "oak-node-1", stranger(22), OSError(errno.ENETUNREACH, "Network is unreachable"), 4
        )

    assert shut.value.why is Shut.NO_ROUTE


@pytest.mark.servers
def test_a_rebuilt_machine_is_not_entered(server: Sshd, entered: SshMachine) -> None:
    entered.run("true")
    server.stop()
    (server.folder / "ssh_host_ed25519_key").unlink()
    make_host_key(server.folder / "ssh_host_ed25519_key")
    server.start()

    with pytest.raises(RefusedError, match="shows another host key"):
        entered.put(entered.layout.config, b"secret")

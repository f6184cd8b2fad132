"""The wait for a machine that is being born: what each obstacle is called; its end is noticed at once."""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morpheus.errors import MachineError, NotReadyError, RefusedError
from morpheus.machine.ssh import Connections, SshMachine, Way, entering, wait_entered
from morpheus.machine.ssh.entering import Birth
from tests.machine.conftest import wait_for
from tests.servers import free_port
from tests.servers.sshd import Sshd, new_key
from tests.servers.wire import Wire

GOOD = {"v1": {"datasource": "DataSourceHetzner", "errors": []}}
SOON = 5  # seconds, of the 20 that are waited: at once, on a computer that is busy with others


class CloudInit:
    """What cloud-init leaves on a machine for others to read."""

    def __init__(self, folder: Path) -> None:
        self.state, self.log = folder / "cloud-init", folder / "output.log"
        self.state.mkdir()

    def is_at(self, stage: str) -> None:
        self._write("status.json", {"v1": {"stage": stage, "init": {"errors": []}}})

    def ends(self, *errors: str, recoverable: dict[str, list[str]] | None = None) -> None:
        stage = {"errors": list(errors), "recoverable_errors": recoverable or {}}
        self._write("status.json", {"v1": {"stage": None, "modules-final": stage}})
        self._write("result.json", {"v1": {"datasource": "DataSourceHetzner", "errors": list(errors)}})

    def _write(self, name: str, content: object) -> None:
        (self.state / f"{name}.new").write_text(json.dumps(content))
        (self.state / f"{name}.new").rename(self.state / name)

    def wait(self, machine: SshMachine, timeout: float = 20) -> Birth:
        return wait_entered(machine, timeout=timeout, state=str(self.state), output=str(self.log))


@pytest.fixture
def cloud_init(tmp_path: Path) -> CloudInit:
    return CloudInit(tmp_path)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="morpheus")
    return caplog


@pytest.mark.servers
def test_a_machine_that_is_ready_is_entered_at_once(entered: SshMachine, cloud_init: CloudInit) -> None:
    cloud_init.ends()
    began = time.monotonic()

    assert cloud_init.wait(entered) == Birth()

    assert time.monotonic() - began < SOON


@pytest.mark.servers
def test_each_obstacle_passes_and_success_is_noticed_at_once(
    server: Sshd, connections: Connections, cloud_init: CloudInit
) -> None:
    """Nothing listens, somebody hangs up, the key is refused, cloud-init runs; then all is well."""
    keys = server.folder / "authorized_keys"
    allowed = keys.read_text()
    keys.write_text("")
    server.stop()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(cloud_init.wait, server.machine(connections))
        with socket.create_server((server.address, server.port)) as silent:
            silent.accept()[0].close()
        server.start()
        wait_for(lambda: "Failed publickey" in server.log or "Connection closed by auth" in server.log)
        keys.write_text(allowed)
        wait_for(lambda: "Starting session" in server.log)
        cloud_init.is_at("modules-final")
        assert not waiting.done()

        cloud_init.ends()
        ended = time.monotonic()
        assert waiting.result(timeout=30) == Birth()

    assert time.monotonic() - ended < SOON


@pytest.mark.servers
def test_a_failed_cloud_init_stops_the_wait_and_shows_the_end_of_its_log(
    entered: SshMachine, cloud_init: CloudInit
) -> None:
    cloud_init.log.write_text("begun\n" * 100 + "E: no such package\n")
    cloud_init.ends("('scripts_user', RuntimeError('Runparts: 1 failures'))")
    began = time.monotonic()

    with pytest.raises(
        MachineError, match=r"(?s)cloud-init of oak-node-1 failed: .*scripts_user.*no such package"
    ):
        cloud_init.wait(entered)

    assert time.monotonic() - began < SOON


@pytest.mark.servers
def test_what_cloud_init_recovered_from_is_a_warning(
    entered: SshMachine, cloud_init: CloudInit, heard: pytest.LogCaptureFixture
) -> None:
    cloud_init.ends(recoverable={"WARNING": ["no such group: oaks"], "DEPRECATED": ["chpasswd.list is old"]})

    assert cloud_init.wait(entered) == Birth(("no such group: oaks",))

    assert "cloud-init of oak-node-1: no such group: oaks" in heard.text
    assert "chpasswd" not in heard.text


@pytest.mark.servers
def test_a_cloud_init_that_goes_on_for_ever_is_bounded_and_says_where_it_is(
    entered: SshMachine, cloud_init: CloudInit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "ROUND", 0.1)
    cloud_init.is_at("modules-config")

    with pytest.raises(NotReadyError, match=r"cloud-init of oak-node-1; last seen: .*modules-config"):
        cloud_init.wait(entered, timeout=0.5)


@pytest.mark.servers
def test_a_cloud_init_that_is_switched_off_is_a_failure(entered: SshMachine, cloud_init: CloudInit) -> None:
    (cloud_init.state / "disabled").touch()

    with pytest.raises(MachineError, match="switched off"):
        cloud_init.wait(entered)


@pytest.mark.servers
def test_a_cloud_init_whose_last_stage_died_is_a_failure(
    server: Sshd, entered: SshMachine, cloud_init: CloudInit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "ROUND", 0.1)
    (server.folder / "units" / "cloud-final.service.failed").touch()

    with pytest.raises(MachineError, match=r"cloud-final\.service"):
        cloud_init.wait(entered)


@pytest.mark.servers
def test_a_line_that_is_cut_while_cloud_init_runs_is_no_end(
    server: Sshd, connections: Connections, wire: Wire, cloud_init: CloudInit
) -> None:
    machine = server.machine(connections, port=wire.port)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(cloud_init.wait, machine)
        for rounds in range(1, 4):
            wait_for(lambda: server.log.count("Starting session") >= rounds)  # noqa: B023  # asked at once
            wire.cut()
        cloud_init.ends()

        assert waiting.result(timeout=30) == Birth()


@pytest.mark.servers
def test_a_reboot_while_cloud_init_runs_is_no_end(
    server: Sshd, entered: SshMachine, cloud_init: CloudInit
) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(cloud_init.wait, entered)
        wait_for(lambda: "Starting session" in server.log)
        server.stop()
        server.start()
        cloud_init.ends()

        assert waiting.result(timeout=30) == Birth()


@pytest.mark.servers
def test_another_host_key_stops_the_wait_at_once(
    server: Sshd, connections: Connections, cloud_init: CloudInit
) -> None:
    began = time.monotonic()

    with pytest.raises(RefusedError, match="shows another host key"):
        cloud_init.wait(server.machine(connections, host_keys=(new_key()[1],)))

    assert time.monotonic() - began < SOON


@pytest.mark.servers
def test_a_key_that_is_never_accepted_is_bounded_and_not_shown_too_often(
    server: Sshd, cloud_init: CloudInit
) -> None:
    refused = pytest.raises(NotReadyError, match="does not accept the forest's SSH key")
    with Connections(new_key()[0]) as strange, refused:
        cloud_init.wait(server.machine(strange), timeout=1.5)

    assert server.log.count("Connection from") <= 5  # one is the test's own look at whether sshd listens


@pytest.fixture
def anybody() -> Iterator[Connections]:
    with Connections(new_key()[0]) as connections:
        yield connections


def stranger(connections: Connections, port: int, address: str = "127.0.0.1") -> SshMachine:
    return SshMachine("oak-node-1", connections, Way(address, (new_key()[1],), port))


def test_a_machine_that_refuses_is_bounded(anybody: Connections) -> None:
    with pytest.raises(
        NotReadyError, match=r"oak-node-1 to let us in; last seen: .* refuses SSH connections"
    ):
        wait_entered(stranger(anybody, free_port()), timeout=0.3)


def test_a_server_that_says_nothing_is_bounded_and_called_so(anybody: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine = stranger(anybody, silent.getsockname()[1])

        with pytest.raises(NotReadyError, match=r"last seen: .* no SSH server speaks there"):
            wait_entered(machine, timeout=0.3)


def test_what_hinders_is_said_while_it_lasts(anybody: Connections, heard: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NotReadyError):
        wait_entered(stranger(anybody, free_port()), timeout=1.2)

    assert "waiting for oak-node-1 to let us in: oak-node-1 (127.0.0.1:" in heard.text
    assert "refuses SSH connections" in heard.text


def test_a_network_without_ipv6_is_not_awaited_for_long(
    anybody: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "NO_IPV6_FOR", 0.1)
    monkeypatch.setattr(socket.socket, "connect", _no_ipv6)
    began = time.monotonic()

    with pytest.raises(NotReadyError, match="This network has no IPv6") as told:
        wait_entered(stranger(anybody, 22, "2001:db8::1"), timeout=60)

    assert "IPv4 as well" in str(told.value)
    assert time.monotonic() - began < 5


def _no_ipv6(_plug: socket.socket, _address: object) -> None:
    raise OSError(101, os.strerror(101))

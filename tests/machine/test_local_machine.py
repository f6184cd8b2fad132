"""A machine that is a folder: what its programs say when they fail, and that it waits until they listen."""

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.errors import MachineError, PortTakenError
from morpheus.machine import NATS, Program
from morpheus.machine.local import LocalMachine, free_bytes
from tests.machine.conftest import free_ports, wait_for


@pytest.fixture
def machine(folder: Path) -> Iterator[LocalMachine]:
    machine = LocalMachine("oak-node-1", folder)
    yield machine
    machine.stop(NATS)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def server(nats_server: str, machine: LocalMachine, port: int, *more: str) -> Program:
    argv = (nats_server, "-a", "127.0.0.1", "-p", str(port), "-l", machine.layout.log, *more)
    return Program(NATS, argv, ports=(port,))


def test_a_started_server_listens(machine: LocalMachine, nats_server: str) -> None:
    port = free_ports().client

    machine.start(server(nats_server, machine, port))

    with machine.forward(port) as address, socket.create_connection(address, timeout=5) as connection:
        assert connection.recv(4) == b"INFO"


def test_a_taken_port_is_told_from_other_faults(machine: LocalMachine, nats_server: str, taken: int) -> None:
    machine.put(machine.layout.config, b"nonsense {")
    with pytest.raises(PortTakenError):
        machine.start(server(nats_server, machine, taken))

    with pytest.raises(MachineError, match="Parse error"):
        machine.start(server(nats_server, machine, taken, "-c", machine.layout.config))


def test_old_words_do_not_explain_a_new_fault(machine: LocalMachine, taken: int) -> None:
    machine.put(machine.layout.log, b"listen tcp 127.0.0.1:4222: bind: address already in use\n")

    with pytest.raises(MachineError, match="it said nothing"):
        machine.start(Program(NATS, ("/bin/false",), ports=(taken,)))


@pytest.mark.parametrize("script", ["echo no licence >&2; exit 3", "sleep 0.05; echo no licence"])
def test_a_program_without_ports_that_ends_at_once_tells_its_last_words(
    machine: LocalMachine, script: str
) -> None:
    with pytest.raises(MachineError, match=r"ended at once.*no licence"):
        machine.start(Program(NATS, ("/bin/sh", "-c", script)))


def test_a_port_that_is_no_port_of_the_node_is_a_fault_of_the_program(machine: LocalMachine) -> None:
    with pytest.raises(MachineError, match="address already in use"):
        machine.start(Program(NATS, ("/bin/sh", "-c", "echo bind: address already in use")))


def test_reloading_sends_the_signal_to_read_again(machine: LocalMachine) -> None:
    script = "trap 'echo again' HUP; echo ready; while :; do sleep 0.01; done"
    out = machine.folder / f"{NATS}.out"
    machine.start(Program(NATS, ("/bin/sh", "-c", script)))
    wait_for(lambda: "ready" in out.read_text())

    machine.reload(NATS)

    wait_for(lambda: "again" in out.read_text())


def test_a_command_that_fails_says_why(machine: LocalMachine) -> None:
    with pytest.raises(MachineError, match="ended with 3: too bad"):
        machine.run("/bin/sh", "-c", "echo too bad >&2; exit 3")


def test_a_command_that_does_not_end_is_ended(machine: LocalMachine) -> None:
    with pytest.raises(MachineError, match="did not end"):
        machine.run("/bin/sleep", "600", timeout=0.05)


def test_a_command_gets_no_secret_of_ours(machine: LocalMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETZNER_API_TOKEN", "secret")

    said = machine.run("/usr/bin/env")

    assert "PATH=" in said
    assert "secret" not in said


def test_a_machine_whose_folder_is_gone_is_an_error(tmp_path: Path) -> None:
    machine = LocalMachine("oak-node-1", tmp_path / "gone")

    with pytest.raises(MachineError):
        machine.start(Program(NATS, ("/bin/sleep", "600")))
    with pytest.raises(MachineError):
        machine.run("true")


def test_free_bytes_of_a_folder_to_be_are_those_of_its_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_a_file_in_the_place_of_the_folder_is_told_from_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "file", tmp_path / "file" / "forests", Path("/dev/null/forests")):
        with pytest.raises(MachineError, match=r"is no folder, so .* MORPHEUS_DATA_DIR"):
            free_bytes(path)


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_may_not_be_written_is_told_from_a_full_disk(tmp_path: Path, mode: int) -> None:
    root = os.geteuid() == 0  # may write everywhere
    expected = contextlib.nullcontext() if root else pytest.raises(MachineError, match="You may not write to")
    tmp_path.chmod(mode)
    try:
        with expected:
            free_bytes(tmp_path / "data" / "forests")
    finally:
        tmp_path.chmod(0o700)


def test_nothing_is_written_where_the_machine_is_gone(folder: Path, machine: LocalMachine) -> None:
    """Else what comes late, from one who slept, would bring half of it back."""
    folder.rmdir()

    with pytest.raises(MachineError, match="is gone"):
        machine.put(machine.layout.config, b"late")

    assert not folder.exists()


def test_a_machine_removed_while_something_is_written_stays_removed(tmp_path: Path) -> None:
    """Who stood still between the look at the folder and the writing must not bring half of it back."""
    brought_back = []
    (tmp_path / "removed").mkdir()
    for round_ in range(200):
        folder = tmp_path / f"elm-node-{round_ + 1}"
        folder.mkdir()
        machine = LocalMachine(folder.name, folder)
        gone = threading.Event()

        def write(machine: LocalMachine = machine, gone: threading.Event = gone) -> None:
            with contextlib.suppress(MachineError):
                for count in itertools.count():
                    machine.put(machine.layout.marker, str(count).encode())
                    if gone.is_set():
                        return

        writer = threading.Thread(target=write)
        writer.start()
        folder.rename(tmp_path / "removed" / folder.name)
        gone.set()
        writer.join(10)
        if folder.exists():
            brought_back.append(folder.name)

    assert brought_back == []

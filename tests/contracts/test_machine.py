"""The contract of the Machine port: files whole or not at all, programs that run once and stop wholly."""

import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from morpheus.errors import MachineError
from morpheus.machine import Machine, Program
from morpheus.machine.local import LocalMachine
from tests.fake_cloud import FakeMachine
from tests.flows.valleys.births import born_in_valley
from tests.servers.sshd import born_machine


def _local(folder: Path) -> LocalMachine:
    folder = folder / "oak-node-1"
    folder.mkdir()
    return LocalMachine("oak-node-1", folder)


# A new kind of machine is one line here.
MACHINES: dict[str, Callable[[Path], AbstractContextManager[Machine]]] = {
    "local": lambda folder: nullcontext(_local(folder)),
    "fake": lambda _: nullcontext(FakeMachine("oak-node-1")),
    "valley": lambda folder: born_in_valley(folder / "valley"),
    "ssh": lambda folder: born_machine(folder / "sshd"),
}
NEED_SERVERS = {"ssh": pytest.mark.servers}
PARAMETERS = [pytest.param(each, marks=NEED_SERVERS.get(each, ())) for each in MACHINES]

SLEEPER = Program("sleeper", (sys.executable, "-c", "import signal; signal.pause()"))


@pytest.fixture(params=PARAMETERS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with MACHINES[request.param](tmp_path) as machine:
        yield machine
        machine.stop("sleeper")


@pytest.fixture
def path(machine: Machine) -> str:
    return machine.layout.config


def test_every_path_of_the_layout_is_absolute(machine: Machine) -> None:
    layout = machine.layout

    paths = (layout.config, layout.cluster, layout.store, layout.log, layout.marker, layout.data)

    assert all(path.startswith("/") for path in paths)


def test_a_file_that_is_not_there_reads_as_none(machine: Machine, path: str) -> None:
    assert machine.read(path) is None


def test_what_was_put_is_read(machine: Machine, path: str) -> None:
    assert machine.put(path, b"\0\xffone") is True
    assert machine.read(path) == b"\0\xffone"


def test_putting_the_same_again_changes_nothing(machine: Machine, path: str) -> None:
    machine.put(path, b"one")

    assert machine.put(path, b"one") is False
    assert machine.put(path, b"two") is True


def test_putting_another_mode_is_a_change(machine: Machine, path: str) -> None:
    machine.put(path, b"one", mode=0o600)

    assert machine.put(path, b"one", mode=0o700) is True
    assert machine.put(path, b"one", mode=0o700) is False


def test_folders_are_made_on_the_way(machine: Machine) -> None:
    machine.put(machine.layout.marker, b"{}")

    assert machine.read(machine.layout.marker) == b"{}"


def test_a_file_below_a_file_is_an_error(machine: Machine, path: str) -> None:
    machine.put(path, b"one")

    with pytest.raises(MachineError):
        machine.put(f"{path}/below", b"two")


def test_reading_a_folder_is_an_error(machine: Machine) -> None:
    machine.put(machine.layout.marker, b"{}")

    with pytest.raises(MachineError):
        machine.read(machine.layout.store)


def test_readers_see_a_file_whole_while_it_is_replaced(machine: Machine, path: str) -> None:
    contents = {bytes([digit]) * 200_000 for digit in range(10)}
    machine.put(path, min(contents))
    done = threading.Event()

    def read() -> set[bytes | None]:
        seen = set()
        while not done.is_set():
            seen.add(machine.read(path))
        return seen

    with ThreadPoolExecutor() as pool:
        seen = pool.submit(read)
        for content in contents:
            machine.put(path, content)
        done.set()

    assert seen.result()
    assert seen.result() <= contents


def test_a_command_that_is_not_there_is_an_error(machine: Machine) -> None:
    with pytest.raises(MachineError):
        machine.run("/no/such/command")


def test_a_program_runs_after_its_start_and_not_after_its_stop(machine: Machine) -> None:
    assert machine.pid("sleeper") is None

    machine.start(SLEEPER)
    assert machine.pid("sleeper") is not None

    machine.stop("sleeper")
    assert machine.pid("sleeper") is None


def test_starting_twice_is_one_process(machine: Machine) -> None:
    machine.start(SLEEPER)
    first = machine.pid("sleeper")

    machine.start(SLEEPER)

    assert machine.pid("sleeper") == first


def test_a_stopped_program_can_be_started_again(machine: Machine) -> None:
    machine.start(SLEEPER)
    first = machine.pid("sleeper")
    machine.stop("sleeper")

    machine.start(SLEEPER)

    assert machine.pid("sleeper") not in (None, first)


def test_stopping_is_repeatable_and_needs_no_start(machine: Machine) -> None:
    machine.stop("sleeper")
    machine.start(SLEEPER)

    machine.stop("sleeper")
    machine.stop("sleeper")

    assert machine.pid("sleeper") is None


def test_reloading_what_does_not_run_is_fine(machine: Machine) -> None:
    machine.reload("sleeper")

    assert machine.pid("sleeper") is None


def test_a_program_that_is_not_there_is_an_error(machine: Machine) -> None:
    with pytest.raises(MachineError):
        machine.start(Program("sleeper", ("no-such-program",)))

    assert machine.pid("sleeper") is None


def test_a_port_is_reached_through_an_address_of_here(machine: Machine) -> None:
    with machine.forward(4222) as (host, port):
        assert host
        assert 0 < port < 65536


def test_a_local_file_has_the_mode_it_was_put_with(tmp_path: Path) -> None:
    machine = _local(tmp_path)

    machine.put(machine.layout.config, b"one")
    machine.put(machine.layout.cluster, b"two", mode=0o644)

    modes = [
        stat.S_IMODE(Path(path).stat().st_mode) for path in (machine.layout.config, machine.layout.cluster)
    ]
    assert modes == [0o600, 0o644]

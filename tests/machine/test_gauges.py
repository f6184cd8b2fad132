"""How busy a machine is, as it tells itself and as this computer knows it."""

from dataclasses import astuple
from pathlib import Path

import psutil
import pytest

from morpheus.errors import MachineError
from morpheus.machine import gauges
from morpheus.machine.local import LocalMachine
from tests.fake_cloud import FakeMachine
from tests.growth.load import burning, filling, holding, in_memory

SAID = """\
cpu  1000 0 500 8000 400 0 100 0 0 0
cpu  1060 0 520 8110 405 0 100 5 60 0
MemTotal:        4000000 kB
MemAvailable:    1000000 kB
1000 400 300
"""


def test_what_a_machine_says_is_the_share_of_all_it_has() -> None:
    """Of 200 ticks 115 went by idle; a guest's are among those of users; 100 blocks are root's alone."""
    told = gauges.parse(SAID)

    assert astuple(told) == pytest.approx((42.5, 75.0, 100 * 600 / 900))


@pytest.mark.parametrize(
    "said", ["", "cpu 1", SAID.replace("MemAvailable", "Nothing"), SAID + "more", SAID.replace("1060", "x")]
)
def test_what_cannot_be_read_is_no_load_of_nothing(said: str) -> None:
    machine = _machine(said)

    with pytest.raises(MachineError, match="told nothing of its load that can be read"):
        gauges.measure(machine, 0)


def test_ticks_that_do_not_pass_tell_nothing() -> None:
    line = SAID.splitlines()[0]

    with pytest.raises(MachineError):
        gauges.measure(_machine(SAID.replace(SAID.splitlines()[1], line)), 0)


class _Saying(FakeMachine):
    """A machine on which every command prints the same."""

    said = ""

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        assert timeout >= gauges.BOUND
        return self.said


def _machine(said: str) -> _Saying:
    machine = _Saying("oak-node-1")
    machine.said = said
    return machine


def test_a_machine_measures_itself_by_one_command(tmp_path: Path) -> None:
    """The script runs as it does on a machine; that is this computer, so both ways tell the same."""
    machine = LocalMachine("oak-node-1", tmp_path)
    Path(machine.layout.store).mkdir()

    with burning():
        told = gauges.measure(machine, 1)
        known = gauges.of_this_computer(machine.layout.store, 1)

    assert told.cpu > 60
    assert known.cpu > 60
    assert told.memory == pytest.approx(known.memory, abs=5)
    assert told.disk == pytest.approx(psutil.disk_usage(str(tmp_path)).percent, abs=0.5)
    assert known.disk == pytest.approx(told.disk, abs=0.5)


def test_memory_that_a_program_holds_is_seen(tmp_path: Path) -> None:
    size = psutil.virtual_memory().total // 20
    before = gauges.of_this_computer(str(tmp_path), 0.1).memory

    with holding(size):
        held = gauges.of_this_computer(str(tmp_path), 0.1).memory

    assert held > before + 2  # of five, since others come and go


def test_a_disk_that_fills_up_is_seen() -> None:
    """By a hundredth."""
    with in_memory() as (disk, total):
        before = gauges.of_this_computer(str(disk), 0.1).disk
        with filling(disk, total // 100):
            after = gauges.of_this_computer(str(disk), 0.1).disk

    assert after - before == pytest.approx(1, abs=0.3)


def test_a_machine_without_its_store_does_not_tell(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        gauges.measure(LocalMachine("oak-node-1", tmp_path), 0)
    with pytest.raises(MachineError):
        gauges.of_this_computer(str(tmp_path / "nowhere"), 0.1)

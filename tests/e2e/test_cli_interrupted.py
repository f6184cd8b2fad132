"""A command that is interrupted or killed leaves nothing behind, or what the next one completes."""

import contextlib
import signal
import subprocess
from collections.abc import Callable

import filelock
import psutil
import pytest

from morpheus.errors import NotReadyError
from morpheus.wait import wait_until
from tests.e2e.conftest import NEVER_READY, Home, begun, ended, of_running

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def creating(home: Home, plant: "subprocess.Popen[str]") -> None:
    """Wait for the first machine."""
    there = of_running(plant, lambda: [*home.data.glob("forests/elm/*/*")])
    wait_until("a machine", there, bool, str, timeout=60, interval=0.002)


def verifying(home: Home, plant: "subprocess.Popen[str]") -> None:
    home.wait_until_verifying("elm", 3, plant)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [begun, creating, verifying])
def test_a_signal_leaves_nothing_behind(
    home: Home, number: signal.Signals, moment: Callable[[Home, "subprocess.Popen[str]"], None]
) -> None:
    home.settings(NEVER_READY)
    plant = home.start("plant", "local", "medium", "--name", "elm")
    moment(home, plant)
    if moment is verifying and number == signal.SIGINT:
        busy = home.morpheus("plant", "local", "--name", "elm")
        assert plant.poll() is None, plant.communicate()
        assert (busy.code, "elm is held by" in busy.sentence) == (4, True), busy.err

    plant.send_signal(number)
    done = ended(plant, timeout=40)

    assert done.code == 128 + number
    assert done.sentence.startswith(
        "morpheus: Interrupted." if number == signal.SIGINT else "morpheus: Terminated."
    )
    assert done.err.count("morpheus: ") == 1
    assert home.left("elm") == []


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_while_the_first_is_obeyed_is_no_fault_of_morpheus(
    home: Home, second: signal.Signals
) -> None:
    home.settings(NEVER_READY)
    plant = home.start("plant", "local", "medium", "--name", "elm")
    verifying(home, plant)

    plant.send_signal(signal.SIGINT)
    while plant.poll() is None:  # one for every moment of the cleaning up
        plant.send_signal(second)
        with contextlib.suppress(subprocess.TimeoutExpired):
            plant.wait(timeout=0.15)
    done = ended(plant)

    assert done.code in {130, 143}, done.err
    assert home.morpheus("teardown", "elm", "--yes").code in {0, 3}
    assert home.left("elm") == []


def test_a_machine_that_is_being_made_when_the_signal_comes_goes_too(home: Home) -> None:
    """What is under way lands first, and only then is taken back."""
    forests = home.data / "forests"
    forests.mkdir()
    with filelock.FileLock(forests / ".lock"):  # whoever makes a machine waits for it
        plant = home.start("plant", "local", "medium", "--name", "elm")
        lock, process = str(forests / ".lock"), psutil.Process(plant.pid)
        wait_until(
            "a try",
            of_running(plant, lambda: {each.path for each in process.open_files()}),
            lambda seen: lock in seen,
            str,
            timeout=60,
            interval=0.001,
        )
        plant.send_signal(signal.SIGINT)
        with pytest.raises(NotReadyError):
            wait_until("an end", plant.poll, lambda code: code is not None, str, timeout=2)

    done = ended(plant, timeout=40)
    assert done.code == 130
    assert home.left("elm") == []


def test_a_killed_plant_is_completed_by_the_next_one(home: Home) -> None:
    plant = home.start("plant", "local", "medium", "--name", "elm")
    creating(home, plant)
    plant.kill()
    plant.communicate(timeout=10)
    forest = home.forest("elm")
    assert forest is not None  # recorded before anything was created
    assert forest.status == "provisioning"
    assert {folder.name for folder in home.running().values()} <= {node.name for node in forest.nodes}

    done = home.morpheus("plant", "local", "--name", "elm", "--output", "json")

    assert done.code == 0, done.err
    assert [node["name"] for node in done.json["nodes"]] == [f"elm-node-{k}" for k in (1, 2, 3)]
    assert len(home.running()) == 3

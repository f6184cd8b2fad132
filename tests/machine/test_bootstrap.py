"""The operator's script: run once, whole, one at a time, and its failure says what it said."""

import subprocess
from pathlib import Path

import pytest

from morpheus.errors import MachineError, MissingPartError
from morpheus.machine import places
from morpheus.machine.bootstrap import RUN, TAIL, read_script, run_once
from tests.fake_cloud import FakeMachine

EXAMPLE = Path(__file__).parents[2] / "examples" / "bootstrap.sh"
RUNNING = ("/bin/sh", "-c", RUN, "bootstrap", places.BOOTSTRAP, places.BOOTSTRAPPED, places.BOOTSTRAP_LOG)
TELLING = ("tail", "-c", str(TAIL), places.BOOTSTRAP_LOG)


class Place:
    """A script, its marker and its log, in a folder of this machine."""

    def __init__(self, folder: Path, text: str) -> None:
        self.script, self.marker, self.log = (folder / each for each in ("script", "marker", "log"))
        self.runs = folder / "runs"
        self.script.write_text(text)
        self.script.chmod(0o700)

    @property
    def command(self) -> list[str]:
        return ["sh", "-c", RUN, "bootstrap", *map(str, (self.script, self.marker, self.log))]

    def run(self) -> int:
        return subprocess.run(self.command, cwd=self.script.parent, check=False).returncode


def test_a_script_runs_once_and_never_again(tmp_path: Path) -> None:
    place = Place(tmp_path, "#!/bin/sh\necho ran >> runs; echo out; echo err >&2\n")

    codes = [place.run(), place.run()]

    assert codes == [0, 0]
    assert place.runs.read_text() == "ran\n"
    assert place.log.read_text() == "out\nerr\n"


def test_one_that_failed_or_was_cut_off_runs_again(tmp_path: Path) -> None:
    place = Place(tmp_path, "#!/bin/sh\necho ran >> runs; [ -e there ] || { touch there; kill -9 $$; }\n")

    codes = [place.run(), place.run()]

    assert codes == [137, 0]
    assert place.runs.read_text() == "ran\nran\n"


def test_two_never_run_at_a_time(tmp_path: Path) -> None:
    script = "mkdir busy || echo both >> runs; sleep 0.2; rmdir busy\necho ran >> runs\n"
    place = Place(tmp_path, f"#!/bin/sh\n{script}")

    processes = [subprocess.Popen(place.command, cwd=tmp_path) for _ in range(3)]
    codes = [process.wait(timeout=10) for process in processes]

    assert codes == [0, 0, 0]
    assert place.runs.read_text() == "ran\n"


def test_any_program_may_be_the_script(tmp_path: Path) -> None:
    place = Place(tmp_path, "#!/usr/bin/python3\nprint('hello')\n")

    assert place.run() == 0
    assert place.log.read_text() == "hello\n"


def test_a_machine_on_which_it_ran_is_left_alone() -> None:
    machine = FakeMachine("oak-node-1")
    machine.answers[RUNNING] = ""

    assert run_once(machine, b"one", timeout=1) is True
    machine.files[places.BOOTSTRAPPED] = b""
    assert run_once(machine, b"two", timeout=1) is False
    assert machine.files[places.BOOTSTRAP] == b"one"
    assert machine.modes[places.BOOTSTRAP] == 0o700
    assert machine.commands == [RUNNING]


def test_a_failure_comes_with_the_end_of_what_was_said() -> None:
    machine = FakeMachine("oak-node-1")
    machine.answers[RUNNING] = MachineError("/bin/sh on oak-node-1 ended with 7: .")
    machine.answers[TELLING] = "E: no such package\n"

    with pytest.raises(MachineError, match=r"bootstrap_script failed on oak-node-1.*7(.|\n)*no such package"):
        run_once(machine, b"one", timeout=1)


def test_a_script_that_cannot_be_read_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    with pytest.raises(MissingPartError, match=r"integration\.bootstrap_script: .*nothing cannot be read"):
        read_script(tmp_path / "nothing")
    with pytest.raises(MissingPartError, match="is empty"):
        read_script(tmp_path / "empty")
    assert read_script(None) is None


def test_the_example_is_a_script() -> None:
    script = read_script(EXAMPLE)

    assert script
    assert script.startswith(b"#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", str(EXAMPLE)], check=False).returncode == 0

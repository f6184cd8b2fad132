"""Two controllers, each with a Prefect server of its own, and one forest: it grows as if there were one."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from morpheus import host, site
from morpheus.forest import Forest, Status
from morpheus.registry.lease import DURATION, FRESH
from morpheus.wait import wait_until
from morpheus.watch import judged, read_nodes
from tests.e2e.conftest import PATIENCE, Home, is_free

pytestmark = [pytest.mark.long, pytest.mark.timeout(500)]  # each wait has a bound of its own

SETTINGS = "growth: {enabled: true, cooldown_minutes: 60, max_nodes: 6}\n"
TAKEN_OVER = DURATION.total_seconds() + FRESH + PATIENCE  # seconds until another one may have gone on
_number = itertools.count()


@dataclass
class Controller:
    """A program that lets the forest grow whenever it may, and the lines that it said."""

    home: Home
    minutes: int = 0  # that its clock is fast
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        folder = self.home.path / f"server-{next(_number)}"
        more = {
            "PREFECT_HOME": str(folder),
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PYTHONPATH": self.home.more.get("PYTHONPATH", str(Path.cwd())),
        }
        with (self.home.path / f"{folder.name}.err").open("wb") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.controller", str(folder), str(self.minutes)],
                env=self.home.environment | more,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            self.said.extend(iter(lines.readline, ""))

    def wait_heard(self, lines: int = 1) -> None:
        """Wait until it said so many lines more."""
        enough = len(self.said) + lines
        wait_until(
            "a decision", lambda: len(self.said), lambda n: n >= enough, str, timeout=PATIENCE, interval=0.05
        )

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join(PATIENCE)

    @property
    def grew(self) -> Sequence[str]:
        return [line for line in self.said if line.startswith("grew")]


@dataclass
class Field:
    """A forest of three that is just about to grow, and the controllers that want it to."""

    home: Home
    controllers: list[Controller] = field(default_factory=list)

    def start(self) -> Controller:
        self.controllers.append(Controller(self.home))
        return self.controllers[-1]

    @property
    def forest(self) -> Forest:
        forest = self.home.forest("oak")
        assert forest
        return forest

    def rest(self) -> None:
        """Have the cooldown begin."""
        self.home.registry.update(
            lambda document, now: document.with_forest(replace(document.forests["oak"], last_expansion=now))
        )

    def wait_grown(self, nodes: int, timeout: float = PATIENCE) -> Forest:
        """Wait until the forest stands with so many nodes and nobody holds it."""

        def whole(forest: Forest) -> bool:
            held = forest.lease and not host.has_ended(forest.lease.process)
            return forest.status == Status.ACTIVE and len(forest.nodes) == nodes and not held

        return wait_until(
            "the forest to have grown", lambda: self.forest, whole, str, timeout=timeout, interval=0.05
        )

    def check(self, nodes: int) -> None:
        """The forest stands with so many nodes, and never had another one."""
        forest = self.wait_grown(nodes)
        assert forest.used_numbers == tuple(range(1, nodes + 1))
        verdict = judged(forest.staying, read_nodes(forest.staying, site.local_cloud()))
        assert verdict.formed, verdict.reason
        assert len(self.home.running("oak")) == nodes


@pytest.fixture
def oak(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    done = home.morpheus("plant", "local", "medium", "--name", "oak")
    assert done.code == 0, done.err
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(home.data))
    home.settings(SETTINGS)
    field = Field(home)
    field.rest()
    yield field
    for each in field.controllers:
        each.end()


def test_two_that_decide_alike_let_a_forest_grow_once_each_time_it_may(oak: Field) -> None:
    first, second = oak.start(), oak.start()
    for each in (first, second):
        each.wait_heard()  # that the forest rests
    assert oak.forest.used_numbers == (1, 2, 3)

    for nodes in (4, 5, 6):
        oak.home.let_grow("oak")
        oak.wait_grown(nodes)
        for each in (first, second):
            each.wait_heard(2)  # which it decided when the forest had grown
        oak.check(nodes)
    oak.home.let_grow("oak")
    for each in (first, second):
        each.wait_heard(2)  # six are all there may be

    oak.check(6)
    assert len(first.grew) + len(second.grew) == 3
    others = {line.strip() for line in (*first.said, *second.said) if not line.startswith("grew")}
    assert others <= {"RefusedError", "ForestBusyError", "OvertakenError"}


def test_controllers_that_are_killed_at_any_moment_change_nothing_about_that(oak: Field) -> None:
    moments = random.Random(6)
    second = oak.start()
    for nodes in (4, 5, 6):
        first = oak.start()
        for each in (first, second):
            each.wait_heard()
        oak.home.let_grow("oak")
        time.sleep(moments.uniform(0, 1.5))
        first.end()
        time.sleep(moments.uniform(0, 0.5))
        second.end()
        second = oak.start()

        oak.check(nodes)


def test_one_that_stood_still_for_longer_than_its_lease_does_nothing_more(oak: Field) -> None:
    first = oak.start()
    first.wait_heard()
    oak.home.let_grow("oak")
    begun: Callable[[], bool] = lambda: oak.forest.status == Status.GROWING  # noqa: E731
    wait_until("the expansion", begun, bool, str, timeout=PATIENCE, interval=0.001)
    wait_until("it to hold no lock", lambda: stands_still(oak.home, first), bool, str, timeout=PATIENCE)
    growing = oak.forest

    second = oak.start()
    oak.wait_grown(4, TAKEN_OVER)
    recorded = oak.forest
    first.signal(signal.SIGCONT)
    first.wait_heard(2)

    assert growing.status == Status.GROWING
    assert recorded.last_expansion == growing.last_expansion
    assert [node.name for node in recorded.nodes] == [node.name for node in growing.nodes]
    assert replace(oak.forest, lease=None) == replace(recorded, lease=None)
    oak.check(4)
    assert len(second.grew) == 1
    assert first.grew == []
    assert "LeaseLostError\n" in first.said


def stands_still(home: Home, controller: Controller) -> bool:
    """Stop it, unless it holds a lock of this machine just now, for which everybody would wait."""
    controller.signal(signal.SIGSTOP)
    if all(is_free(lock) for lock in (home.data / ".local.json.lock", home.data / "forests" / ".lock")):
        return True
    controller.signal(signal.SIGCONT)
    return False

"""Processes that write to one registry and are killed or stopped, where test_webdav.py does not look."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.registry import Registry
from morpheus.wait import wait_until
from tests.morpheus.writer import opened
from tests.servers.fixtures import own_folder
from tests.servers.s3 import S3
from tests.servers.webdav import ROOT, WebDav
from tests.servers.writer import recorded

pytestmark = pytest.mark.servers  # with the other tests of stores that take long
FAR = 100_000  # between the numbers of two writers
LOCKS_ALONE = {"once": False, "turns": True, "proven": False}


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registry as writers name it."""
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        return f"s3:{s3.url(f'tests/{tmp_path.name}/registry.json')}"
    if request.param == "locks alone":
        server: WebDav = own_folder(request.getfixturevalue("wsgidav_server"))
        record = server.here / "morpheus/morpheus.store/mechanism.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps(LOCKS_ALONE))
        return f"dav:{server.url()}"
    return str(tmp_path / "registry.json")


class Writer:
    """A process that writes; its log says what was acknowledged."""

    def __init__(self, where: str, log: Path, first: int, count: int) -> None:
        self._log = log
        command = [sys.executable, "-m", "tests.morpheus.writer", where, str(log), str(first), str(count)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    def acknowledged(self) -> list[int]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [int(line) for line in lines]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def writing(where: str, folder: Path, writers: int, updates: int) -> Iterator[list[Writer]]:
    running = [Writer(where, folder / f"log-{k}", FAR * (k + 1), updates) for k in range(writers)]
    try:
        yield running
    finally:
        for writer in running:
            writer.end()


@pytest.mark.parametrize("where", ["s3", "locks alone"], indirect=True)
def test_no_update_of_ten_processes_is_lost(where: str, tmp_path: Path) -> None:
    with writing(where, tmp_path, 10, 20) as writers:
        assert [writer.process.wait(timeout=110) for writer in writers] == [0] * 10

    numbers = recorded(Registry(opened(where)))
    assert sorted(numbers) == [FAR * (k + 1) + n for k in range(10) for n in range(20)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("where", ["local", "s3"], indirect=True)
def test_killed_writers_lose_nothing_that_was_acknowledged(where: str, tmp_path: Path) -> None:
    dice = random.Random(3)
    kills, acknowledged = 8, []
    with writing(where, tmp_path, 2, 10_000) as steady:
        for k in range(kills):
            victim = Writer(where, tmp_path / f"victim-{k}", FAR * (k + 11), 10_000)
            try:
                # Who comes late may be unlucky for long beside two that never pause.
                wait_until("an update", victim.acknowledged, bool, str, timeout=90, interval=0.001)
                time.sleep(dice.uniform(0, 0.05))  # anywhere in its next update
            finally:
                victim.end()
            acknowledged += victim.acknowledged()
        for writer in steady:
            writer.end()
            acknowledged += writer.acknowledged()

    numbers = recorded(Registry(opened(where)))
    assert len(numbers) == len(set(numbers))
    assert set(acknowledged) <= set(numbers)
    assert len(set(numbers) - {*acknowledged}) <= kills + 2


@pytest.mark.parametrize("where", ["local", "s3", "locks alone"], indirect=True)
def test_a_writer_that_is_stopped_again_and_again_overwrites_nothing(where: str, tmp_path: Path) -> None:
    dice = random.Random(9)
    with writing(where, tmp_path, 3, 40) as writers:
        sleeper = writers[0]
        wait_until("an update", sleeper.acknowledged, bool, str, timeout=30, interval=0.001)
        for _ in range(6):
            time.sleep(dice.uniform(0, 0.05))
            sleeper.process.send_signal(signal.SIGSTOP)
            time.sleep(0.3)  # with locks alone it must be shorter than a lock lasts
            sleeper.process.send_signal(signal.SIGCONT)
        assert [writer.process.wait(timeout=110) for writer in writers] == [0] * 3

    numbers = recorded(Registry(opened(where)))
    assert sorted(numbers) == [FAR * (k + 1) + n for k in range(3) for n in range(40)]

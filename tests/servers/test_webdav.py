"""The registry on real WebDAV servers: many writers, dead and sleeping ones, lost answers, other programs.

What each answer means to a writer stands in test_webdav_answers.py.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from morpheus.errors import (
    ForestBusyError,
    RegistryConflictError,
    TransientError,
)
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.lease import Claim, Hold
from morpheus.wait import wait_until
from tests.servers.others import (
    LOCK_TIMEOUT,
    first_of,
    overtake,
    plain_readers,
    published,
    standing_still,
    through,
    written_by_another,
)
from tests.servers.proxy import Cut, Gate, Plan, Point, Proxy, Request, at
from tests.servers.webdav import ROOT, WebDav
from tests.servers.writer import add, recorded

pytestmark = pytest.mark.usefixtures("short_waits")


# Many processes


class Writer:
    """A process that writes; its log says what was acknowledged."""

    def __init__(self, server: WebDav, log: Path, first: int, count: int) -> None:
        self.log = log
        arguments = [
            server.url(),
            server.username or "",
            server.password or "",
            log,
            first,
            count,
            LOCK_TIMEOUT,
        ]
        command = [sys.executable, "-m", "tests.servers.writer", *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    def acknowledged(self) -> list[int]:
        return [int(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@contextlib.contextmanager
def writing(server: WebDav, folder: Path, count: int, updates: int) -> Iterator[list[Writer]]:
    writers = [Writer(server, folder / f"log-{k}", 1000 * (k + 1), updates) for k in range(count)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.process.kill()
            writer.process.wait()


def cut_some_commits(chance: float) -> Plan:
    """Lose answers, at random, to what makes a revision or writes the document."""
    dice = random.Random(7)

    def plan(request: Request) -> Cut | None:
        commits = request.method in {"MOVE", "PUT"}
        return Cut(Point.REPLY) if commits and dice.random() < chance else None

    return plan


@pytest.mark.parametrize("cuts", [False, True], ids=["", "replies cut"])
def test_no_update_of_ten_processes_is_lost(
    server: WebDav, registry: Registry, proxy: Proxy, tmp_path: Path, cuts: bool
) -> None:
    add(registry, 0)  # the server is asked what it can without cuts: its every answer counts
    proxy.schedule(cut_some_commits(0.1 if cuts else 0))
    with writing(through(proxy, server) if cuts else server, tmp_path, 10, 20) as writers:
        assert [writer.process.wait(timeout=100) for writer in writers] == [0] * 10

    numbers = recorded(registry)
    assert sorted(numbers) == [0, *(1000 * (k + 1) + n for k in range(10) for n in range(20))]
    assert registry.read().revision == 201


def test_killed_writers_lose_nothing_that_was_acknowledged(
    server: WebDav, registry: Registry, tmp_path: Path
) -> None:
    dice = random.Random(3)
    kills, acknowledged = 8, []
    add(registry, 1)
    with plain_readers(server), writing(server, tmp_path, 2, 10_000) as steady:
        for k in range(kills):
            victim = Writer(server, tmp_path / f"victim-{k}", 100_000 * (k + 1), 10_000)
            try:
                wait_until("an update", victim.acknowledged, bool, str, timeout=30, interval=0.001)
                time.sleep(dice.uniform(0, 0.05))  # anywhere in its next update
            finally:
                victim.process.kill()
                victim.process.wait()
            acknowledged += victim.acknowledged()
        for writer in steady:
            writer.process.kill()
            writer.process.wait()
            acknowledged += writer.acknowledged()

    numbers = recorded(registry)
    assert len(numbers) == len(set(numbers))
    assert set(acknowledged) <= set(numbers)
    assert len(set(numbers) - {1, *acknowledged}) <= kills + 2


def test_a_first_creation_raced_by_ten_is_made_by_all(
    server: WebDav, registry: Registry, tmp_path: Path
) -> None:
    barrier = threading.Barrier(10, timeout=60)

    def first(k: int) -> None:
        store = server.store()
        barrier.wait()
        add(Registry(store), k)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(first, range(10)))

    assert sorted(recorded(registry)) == list(range(10))
    assert registry.read().revision == 10
    assert not (server.here / "morpheus/morpheus.probing").exists()


# Writers that sleep, stall and die


def requests_of_an_update(registry: Registry, proxy: Proxy) -> list[Request]:
    """What a steady single writer sends; the numbers 1 to 3 are recorded afterwards."""
    for number in (1, 2):
        add(registry, number)
    proxy.schedule(lambda _: None)
    add(registry, 3)
    return list(proxy.requests)


def test_a_writer_that_sleeps_after_any_request_overwrites_nothing(
    server: WebDav, registry: Registry, proxy: Proxy
) -> None:
    sleeper = Registry(through(proxy, server).store())
    numbers = [1, 2, 3]
    for k in range(1, 1 + len(requests_of_an_update(sleeper, proxy))):
        gate = Gate(Point.REPLY)
        proxy.schedule(at(k, gate))
        with standing_still(gate, sleeper, 100 + k):
            numbers += written_by_another(server, 10_000 + 100 * k, 3)
        numbers.append(100 + k)

    assert sorted(recorded(registry)) == sorted(numbers)


@pytest.mark.parametrize("point", [Point.REQUEST, Point.REPLY])
@pytest.mark.parametrize("others", [25, 210])
def test_a_writer_sleeps_while_its_number_is_made_and_pruned(
    server: WebDav, registry: Registry, proxy: Proxy, point: Point, others: int
) -> None:
    sleeper = Registry(through(proxy, server).store())
    add(sleeper, 1)
    gate = Gate(point)
    proxy.schedule(first_of("MOVE", "making", gate))
    with standing_still(gate, sleeper, 2):
        overtake(server.store(), others)

    assert sorted(recorded(registry)) == [1, 2, *range(1000, 1000 + others)]
    assert len(list((server.here / "morpheus/registry.versions").iterdir())) <= 24


def test_a_stopped_process_overwrites_nothing(
    server: WebDav, registry: Registry, proxy: Proxy, tmp_path: Path
) -> None:
    numbers: list[int] = []
    gates: list[Gate] = []

    def plan(request: Request) -> Gate | None:
        if request.number % 13 or len(gates) == 5:
            return None
        gates.append(Gate(Point.REPLY, lambda: os.kill(pids[0], signal.SIGSTOP)))
        return gates[-1]

    add(registry, 1)
    proxy.schedule(plan)
    pids: list[int] = []
    with writing(through(proxy, server), tmp_path, 1, 10) as (writer,):
        pids.append(writer.process.pid)
        for k in range(5):
            wait_until("the next stop", lambda: len(gates), lambda count, k=k: count > k, str, timeout=30)  # type: ignore[misc]
            assert gates[k].reached.wait(30)
            gates[k].open()
            numbers += written_by_another(server, 10_000 + 100 * k, 2)
            writer.process.send_signal(signal.SIGCONT)
        assert writer.process.wait(timeout=60) == 0

    assert sorted(recorded(registry)) == sorted([1, *range(1000, 1010), *numbers])


@pytest.mark.parametrize("part", ["making", "registry.json"])
def test_an_upload_that_stalls_in_its_middle_overwrites_nothing(
    server: WebDav, registry: Registry, proxy: Proxy, part: str
) -> None:
    stalled = Registry(through(proxy, server).store())
    add(stalled, 1)
    gate = Gate(Point.UPLOAD)
    proxy.schedule(first_of("PUT", part, gate))
    with standing_still(gate, stalled, 2):
        numbers = written_by_another(server, 1000, 25)

    assert sorted(recorded(registry)) == [1, 2, *numbers]
    assert published(server) == registry._store.read().text


def test_a_reply_lost_after_any_request_applies_nothing_twice(
    server: WebDav, registry: Registry, proxy: Proxy
) -> None:
    writer = Registry(through(proxy, server).store())
    steps = len(requests_of_an_update(writer, proxy))
    for k in range(1, 1 + steps):
        proxy.schedule(at(k, Cut(Point.REPLY, reset=bool(k % 2))))
        add(writer, 100 + k)

    assert sorted(recorded(registry)) == [1, 2, 3, *range(101, 101 + steps)]


def test_a_first_write_whose_every_reply_may_be_lost(server: WebDav, proxy: Proxy) -> None:
    proxy.schedule(lambda _: None)
    add(Registry(through(proxy, replace(server, folder=f"{server.folder}0/")).store()), 1)
    first = [r.number for r in proxy.requests if "probing" not in r.path]
    for k in first[::3]:
        place = through(proxy, replace(server, folder=f"{server.folder}{k}/"))
        proxy.schedule(at(k, Cut(Point.REPLY)))
        registry = Registry(place.store())
        with contextlib.suppress(TransientError):
            add(registry, 1)
        proxy.schedule(lambda _: None)
        add(registry, 2)
        assert recorded(registry) in ([1, 2], [2]), k


def test_a_first_write_on_a_network_that_loses_answers(server: WebDav, proxy: Proxy) -> None:
    dice = random.Random(11)
    proxy.schedule(lambda _: Cut(Point.REPLY) if dice.random() < 0.1 else None)

    add(Registry(through(proxy, server).store()), 1)

    proxy.schedule(lambda _: None)
    assert recorded(Registry(server.store())) == [1]
    assert not (server.here / "morpheus/morpheus.probing").exists()


def test_what_a_writer_left_that_died_while_it_asked_is_cleared(server: WebDav, proxy: Proxy) -> None:
    started = threading.Event()

    def plan(request: Request) -> Cut | None:
        if "probing" in request.path and request.method == "MOVE":
            started.set()
        return Cut(Point.REQUEST) if started.is_set() else None

    proxy.schedule(plan)
    with pytest.raises(TransientError):
        through(proxy, server).store().write("dead", None, backup=False)
    assert list((server.here / "morpheus/morpheus.probing").iterdir())

    add(Registry(server.store()), 1)

    assert not (server.here / "morpheus/morpheus.probing").exists()


def test_who_dies_with_a_lock_blocks_others_no_longer_than_it_lasts(
    server: WebDav, registry: Registry
) -> None:
    add(registry, 1)
    dead = server.store()
    dead.read()
    turn = dead.turn()
    turn.__enter__()
    started = time.monotonic()

    written_by_another(server, 10, 20)

    assert time.monotonic() - started < LOCK_TIMEOUT + 5
    turn.__exit__(None, None, None)


def test_what_dead_writers_had_prepared_is_cleared_after_an_hour(server: WebDav, registry: Registry) -> None:
    add(registry, 1)
    for name in ("100-old", f"{2**40}-young"):
        (server.here / "morpheus/registry.making" / name).mkdir()
        (server.here / "morpheus/registry.making" / name).chmod(0o777)

    add(Registry(server.store()), 2)

    assert [each.name for each in (server.here / "morpheus/registry.making").iterdir()] == [f"{2**40}-young"]


# What it costs


def test_a_steady_writer_needs_few_requests(
    server: WebDav, proxy: Proxy, request: pytest.FixtureRequest
) -> None:
    steps = requests_of_an_update(Registry(through(proxy, server).store()), proxy)
    writer = Registry(through(proxy, server).store())
    for number in range(100, 130):  # until it prunes
        add(writer, number)
    proxy.schedule(lambda _: None)
    add(writer, 999)

    locks = any(each.method == "LOCK" for each in steps)
    most = 10 if locks else 8
    if "wsgidav" in request.node.name:  # a second look after each commit, a lock around each publication
        most += 3
    assert len(proxy.requests) <= most, [str(each) for each in proxy.requests]


# Documents, names and clocks


def test_large_documents_and_missing_collections(server: WebDav) -> None:
    store = server.store("not/made/yet/ä b/registry.json")
    text = json.dumps({"text": "ü🌲" * 2**18}, ensure_ascii=False)
    assert len(text.encode()) > 1_500_000

    version = store.write(text, None, backup=False)
    version = store.write(text + " ", version, backup=True)

    assert server.store("not/made/yet/ä b/registry.json").read()[:2] == (text + " ", version)
    assert store.backups()[0].text == text


def test_a_named_document_is_made_once(server: WebDav) -> None:
    first, second = (server.store(name="secrets/oak") for _ in range(2))
    first.write("a secret", None, backup=False)

    with pytest.raises(RegistryConflictError):
        second.write("another", None, backup=False)

    assert second.read().text == "a secret"
    assert not (server.here / "morpheus/secrets/oak.json").exists()


def test_a_clock_that_is_wrong_steals_no_lease(
    server: WebDav, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(document: object, _: object) -> object:
        return document.with_forest(document.forests.get("oak", Forest("oak")))  # type: ignore[attr-defined]

    registry.update(lambda document, _: document.with_forest(Forest("oak")))
    held = Hold(registry, Claim("oak", "plant", "one"), prepare, margin=1)  # type: ignore[arg-type]
    assert held.forest.lease
    ours = time.time
    monkeypatch.setattr(time, "time", lambda: ours() + 600)
    assert abs(server.store().read().now - held.forest.lease.started) < timedelta(seconds=60)

    with pytest.raises(ForestBusyError):
        Hold(Registry(server.store()), Claim("oak", "grow", "two"), prepare, margin=1)  # type: ignore[arg-type]


def test_threads_share_one_store(server: WebDav) -> None:
    shared = Registry(server.store())
    add(shared, 0)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda k: add(shared, k), range(1, 40)))

    assert sorted(recorded(shared)) == list(range(40))

"""Leases: one operation per forest, whoever sleeps, dies, loses answers or has a wrong clock."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from morpheus import host
from morpheus.errors import ForestBusyError, LeaseLostError, StoreBusyError
from morpheus.forest import Forest, Lease, Status
from morpheus.registry import Registry, Snapshot
from morpheus.registry.document import Document
from morpheus.registry.lease import DURATION, Claim, Hold
from morpheus.wait import wait_until
from tests.fakes import MemoryStore, utc_now

OTHER_HOST = {"host": "another machine", "boot": "b", "pid": 1, "start": 1}


class Clock:
    """A store's clock that runs *offset* beside the real one."""

    def __init__(self, offset: timedelta = timedelta(0)) -> None:
        self.offset = offset

    def __call__(self) -> datetime:
        return utc_now() + self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def registry(store: MemoryStore) -> Registry:
    """A registry that records the forest oak."""
    registry = Registry(store)
    registry.update(lambda document, _: document.with_forest(Forest("oak")))
    return registry


def as_is(document: Document, now: datetime) -> Document:
    return document


def hold(registry: Registry, run: str = "r1", *, margin: float = 0.0) -> Hold:
    return Hold(registry, Claim("oak", "plant", run), as_is, margin=margin)


def oak(registry: Registry) -> Forest:
    return registry.read().forests["oak"]


def lease_of(registry: Registry) -> Lease:
    lease = oak(registry).lease
    assert lease
    return lease


def held_elsewhere(registry: Registry, *, process: dict[str, object] | None = None) -> None:
    """Let another machine (or *process*) hold the forest, as of now, with the first epoch."""

    def change(document: Document, now: datetime) -> Document:
        lease = Lease("grow", "r0", "ada@forge", now, now + DURATION, process or OTHER_HOST)
        forest = replace(document.forests["oak"], lease=lease)
        return replace(document.with_forest(forest), epochs={"oak": 1})

    registry.update(change)


# Taking


def test_a_free_forest_is_taken_with_a_higher_epoch(registry: Registry) -> None:
    with hold(registry):
        pass
    with hold(registry, "r2"):
        lease = lease_of(registry)

        assert registry.read().epochs == {"oak": 2}
        assert (lease.operation, lease.run, lease.process) == ("plant", "r2", host.this_process())
        assert lease.expires - lease.started == DURATION


def test_a_busy_forest_is_refused_with_who_holds_it_and_until_when(registry: Registry) -> None:
    held_elsewhere(registry)
    lease = lease_of(registry)

    with pytest.raises(ForestBusyError) as refused:
        hold(registry)

    sentence = str(refused.value)
    assert "oak is held by ada@forge (grow" in sentence
    assert f"until {lease.expires:%H:%M:%S} UTC" in sentence
    assert registry.read().epochs == {"oak": 1}


def test_what_is_prepared_is_written_with_the_lease(registry: Registry) -> None:
    def prepare(document: Document, now: datetime) -> Document:
        return document.with_forest(Forest("elm", status=Status.PROVISIONING))

    with Hold(registry, Claim("elm", "plant", "r1"), prepare, margin=0) as held:
        assert held.forest.status == Status.PROVISIONING
        assert registry.read().forests["elm"].lease

    assert held.registry_id == registry.read().registry_id


def test_of_many_that_want_it_at_once_exactly_one_gets_it(registry: Registry) -> None:
    barrier = threading.Barrier(6, timeout=30)

    def take(k: int) -> Hold | None:
        barrier.wait()
        try:
            return hold(registry, f"r{k}")
        except ForestBusyError:
            return None

    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            winners = [held for held in pool.map(take, range(6)) if held]

            assert len(winners) == 1
            with winners[0]:
                winners[0].check()


# Taking over


def test_an_expired_lease_is_taken_over_with_a_higher_epoch(
    registry: Registry, clock: Clock, brief: None
) -> None:
    held_elsewhere(registry)
    clock.offset = DURATION + timedelta(seconds=1)

    with hold(registry):
        assert registry.read().epochs == {"oak": 2}
        assert lease_of(registry).run == "r1"


def test_a_lease_is_not_taken_over_a_moment_too_early(registry: Registry, clock: Clock) -> None:
    held_elsewhere(registry)
    clock.offset = DURATION - timedelta(seconds=5)

    with pytest.raises(ForestBusyError):
        hold(registry)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of a lease is soon too old to act upon."""
    monkeypatch.setattr("morpheus.registry.lease.FRESH", 0.2)


def test_a_take_over_waits_until_the_other_cannot_act_and_its_calls_have_landed(
    registry: Registry, clock: Clock, brief: None
) -> None:
    held_elsewhere(registry)
    clock.offset = DURATION + timedelta(seconds=1)
    started = host.awake_seconds()

    with hold(registry, margin=0.3):
        assert host.awake_seconds() - started >= 0.2 + 0.3


def test_who_is_robbed_by_a_clock_that_jumped_begins_nothing_while_the_robber_acts(
    registry: Registry, clock: Clock, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morpheus.registry.lease.RENEW_EVERY", 3600)  # nor does a renewal tell it
    monkeypatch.setattr("morpheus.host.has_ended", lambda _: False)
    robbed = hold(registry)
    robbed.check()
    clock.offset = timedelta(seconds=90)

    with hold(registry, "robber") as robber:
        robber.check()
        with pytest.raises(LeaseLostError):
            robbed.check()


def test_the_lease_of_an_ended_process_is_taken_at_once(registry: Registry) -> None:
    code = "import json; from morpheus.host import this_process; print(json.dumps(this_process()))"
    ended = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    held_elsewhere(registry, process=ended)
    started = host.awake_seconds()

    with hold(registry, margin=30):
        assert host.awake_seconds() - started < 5
        assert registry.read().epochs == {"oak": 2}


def test_the_lease_of_a_living_process_is_not_taken(registry: Registry) -> None:
    held_elsewhere(registry, process=host.this_process())

    with pytest.raises(ForestBusyError):
        hold(registry)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_store_whose_clock_is_off_steals_nothing(minutes: int) -> None:
    registry = Registry(MemoryStore(clock=Clock(timedelta(minutes=minutes))))
    registry.update(lambda document, _: document.with_forest(Forest("oak")))

    with hold(registry, margin=5) as held:
        held.check()
        with pytest.raises(ForestBusyError):
            hold(registry, "r2")
        held.check()

    assert oak(registry).lease is None


# Holding


def test_writes_of_one_that_was_taken_over_are_refused(registry: Registry, clock: Clock, brief: None) -> None:
    late = hold(registry, "late")
    clock.offset = DURATION + timedelta(seconds=1)
    with hold(registry, "next"):
        before = registry.read()

        with pytest.raises(LeaseLostError, match="took oak over"):
            late.update(lambda forest, _: replace(forest, size="large") if forest else None)

        assert registry.read() == before


def test_writes_of_an_earlier_attempt_of_the_same_run_are_refused(registry: Registry, clock: Clock) -> None:
    late = hold(registry, "r1")
    clock.offset = DURATION + timedelta(seconds=1)

    with hold(registry, "r1") as again:
        again.update(lambda forest, _: forest)
        with pytest.raises(LeaseLostError):
            late.update(lambda forest, _: forest)


def test_writes_are_refused_when_another_operation_has_the_same_epoch(registry: Registry) -> None:
    late = hold(registry, "late")
    held_elsewhere(registry)  # a registry put back from a backup counts epochs again
    assert registry.read().epochs == {"oak": 1}

    with pytest.raises(LeaseLostError):
        late.update(lambda forest, _: forest)


def test_writes_are_refused_after_another_program_dropped_the_lease(registry: Registry) -> None:
    held = hold(registry)
    registry.update(lambda document, _: document.with_forest(replace(document.forests["oak"], lease=None)))

    with pytest.raises(LeaseLostError):
        held.update(lambda forest, _: forest)


class Sleeper(MemoryStore):
    """The second write takes effect, but its writer hears of it only after *meanwhile*."""

    def __init__(self, meanwhile: Callable[[Registry], object]) -> None:
        super().__init__()
        self.writes, self.meanwhile = 0, meanwhile

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        self.writes += 1
        version = super().write(text, expected, backup=backup, over=over)
        if self.writes == 2:
            self.clock = Clock(DURATION + timedelta(seconds=1))
            self.meanwhile(Registry(self))
            raise StoreBusyError("no answer")
        return version


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda registry: hold(registry, "next"),
        lambda registry: registry.update(lambda document, _: document.without_forest("oak")),
    ],
    ids=["taken over", "forgotten"],
)
def test_a_forest_lost_before_the_answer_came_is_not_held(meanwhile: Callable[[Registry], object]) -> None:
    store = Sleeper(meanwhile)
    registry = Registry(store)
    registry.update(lambda document, _: document.with_forest(Forest("oak")))

    with pytest.raises(LeaseLostError):
        hold(registry, "late")

    assert store.writes == 3


def test_epochs_survive_the_forest(registry: Registry) -> None:
    late = hold(registry, "late")
    late.update(lambda *_: None)
    registry.update(lambda document, _: document.with_forest(Forest("oak")))

    with hold(registry, "next"):
        assert registry.read().epochs == {"oak": 2}
        with pytest.raises(LeaseLostError):
            late.update(lambda forest, _: forest)


def test_an_update_changes_the_record_and_what_the_holder_knows(registry: Registry) -> None:
    with hold(registry) as held:
        held.update(lambda forest, _: replace(forest, location="fsn1") if forest else None)

        assert held.forest.location == "fsn1"
        assert oak(registry).location == "fsn1"


# Renewing


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed all the time."""
    monkeypatch.setattr("morpheus.registry.lease.RENEW_EVERY", 0.005)


def until(what: str, question: Callable[[], object]) -> None:
    wait_until(what, question, bool, str, timeout=20, interval=0.002)


def test_a_lease_is_renewed_in_the_background(registry: Registry, hasty: None) -> None:
    with hold(registry):
        first = lease_of(registry)

        until("a renewal", lambda: lease_of(registry).expires > first.expires + timedelta(milliseconds=20))

        assert lease_of(registry).started == first.started
        assert registry.read().epochs == {"oak": 1}


def test_renewals_leave_no_backups(registry: Registry, store: MemoryStore, hasty: None) -> None:
    with hold(registry):
        revision = registry.read().revision
        until("five renewals", lambda: registry.read().revision >= revision + 5)

    assert store.backups() == []


class Waylaid(MemoryStore):
    """A store in which the answers to renewals stay away until they are sent, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.landed, self.send = threading.Semaphore(0), threading.Semaphore(0)

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        version = super().write(text, expected, backup=backup, over=over)
        if threading.current_thread().name == "lease-oak":
            self.landed.release()
            assert self.send.acquire(timeout=20)
        return version


def test_a_late_renewal_takes_back_nothing_of_what_the_holder_knows(hasty: None) -> None:
    store = Waylaid()
    registry = Registry(store)
    registry.update(lambda document, _: document.with_forest(Forest("oak")))

    with hold(registry, margin=20) as held:
        assert store.landed.acquire(timeout=20)
        held.update(lambda forest, _: replace(forest, size="large") if forest else None)
        store.send.release()
        assert store.landed.acquire(timeout=20)  # the next one: the first has been digested

        assert held.forest.size == "large"
        store.send.release(1000)


def test_who_was_taken_over_learns_of_it_before_the_next_effect(registry: Registry, hasty: None) -> None:
    with hold(registry) as held:
        held_elsewhere(registry)

        def lost() -> bool:
            try:
                held.check()
            except LeaseLostError:
                return True
            return False

        until("the news", lost)

    assert lease_of(registry).run == "r0"


class Awake:
    """The clock that counts sleep, moved on at will."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> Awake:
    awake = Awake()
    monkeypatch.setattr("morpheus.host.awake_seconds", awake)
    return awake


def test_a_check_writes_nothing_while_enough_remains(registry: Registry, awake: Awake) -> None:
    held = hold(registry, margin=5)
    revision = registry.read().revision

    awake.seconds += 19
    held.check()

    assert registry.read().revision == revision


@pytest.mark.parametrize("slept", [21, 3600])
def test_a_check_renews_when_the_last_proof_is_old(
    registry: Registry, awake: Awake, clock: Clock, slept: int
) -> None:
    held = hold(registry, margin=5)
    awake.seconds += slept
    clock.offset = timedelta(seconds=slept)

    held.check()

    assert lease_of(registry).expires > clock() + timedelta(seconds=50)


def test_a_check_after_a_sleep_raises_when_another_took_over(
    registry: Registry, awake: Awake, clock: Clock, brief: None
) -> None:
    held = hold(registry, margin=0.1)
    awake.seconds += 3600
    clock.offset = timedelta(hours=1)
    with hold(registry, "next"), pytest.raises(LeaseLostError):
        held.check()


def test_a_check_fails_when_the_renewal_itself_took_too_long(awake: Awake) -> None:
    class Slow(MemoryStore):
        def read(self) -> Snapshot:
            awake.seconds += 21
            return super().read()

    registry = Registry(Slow())
    registry.update(lambda document, _: document.with_forest(Forest("oak")))
    held = hold(registry, margin=5)

    with pytest.raises(StoreBusyError, match="too slowly"):
        held.check()


# Releasing


def test_release_keeps_the_forest_and_drops_the_lease(registry: Registry) -> None:
    with hold(registry) as held:
        held.update(lambda forest, _: replace(forest, size="small") if forest else None)

    assert oak(registry).lease is None
    assert oak(registry).size == "small"


def test_a_failed_operation_releases_too(registry: Registry) -> None:
    with pytest.raises(RuntimeError), hold(registry):
        raise RuntimeError

    assert oak(registry).lease is None


def test_release_after_the_forest_was_forgotten_leaves_nothing(registry: Registry) -> None:
    with hold(registry) as held:
        held.update(lambda *_: None)

    assert registry.read().forests == {}
    assert registry.read().epochs == {"oak": 1}


def test_release_takes_nothing_from_who_took_over(registry: Registry) -> None:
    with hold(registry):
        held_elsewhere(registry)

    assert lease_of(registry).run == "r0"


def test_no_renewal_comes_after_the_release(registry: Registry, hasty: None) -> None:
    for _ in range(30):
        with hold(registry, margin=5):
            pass

        assert oak(registry).lease is None
        assert not [thread for thread in threading.enumerate() if thread.name == "lease-oak"]


# Processes


def test_this_process_has_not_ended() -> None:
    assert not host.has_ended(host.this_process())
    assert host.is_running(host.this_process())


def test_a_run_that_was_interrupted_while_it_took_the_forest_takes_it_again_to_clean_up(
    registry: Registry,
) -> None:
    interrupted = hold(registry)  # Ctrl-C: its with block was never entered

    with hold(registry) as again:
        again.check()
        with pytest.raises(LeaseLostError):
            interrupted.update(lambda forest, _: forest)
        with pytest.raises(ForestBusyError):
            hold(registry, "another run")


@pytest.mark.parametrize(
    ("other", "ended"),
    [
        ({"start": 1}, True),
        ({"pid": 2**22 + 1}, True),
        ({"boot": "an earlier one"}, True),
        ({"host": "another"}, False),
        ({"space": "pid:[4026532999]", "pid": 2**22 + 1}, False),
        ({"space": "pid:[4026532999]", "boot": "of another machine with the same id"}, False),
    ],
)
def test_only_what_certainly_ended_has_ended(
    other: dict[str, object], ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morpheus.host.pid_space", str)

    assert host.has_ended({**host.this_process(), **other}) is ended


def test_a_process_of_another_boot_seen_from_a_container_may_be_another_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("morpheus.host.pid_space", lambda: "pid:[4026532999]")
    process = host.this_process()

    assert not host.has_ended({**process, "boot": "another"})
    assert host.has_ended({**process, "start": 1})


def test_nothing_is_known_of_a_process_without_identity() -> None:
    assert not host.has_ended({})


def test_the_clock_of_leases_counts_on() -> None:
    first = host.awake_seconds()

    assert host.awake_seconds() >= first
    assert datetime.now(UTC).tzinfo is UTC

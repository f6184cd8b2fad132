"""Leases are renewed in the background, and looked at before each effect."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from morpheus.errors import LeaseLostError, StoreBusyError
from morpheus.forest import Forest
from morpheus.registry import Registry, Snapshot
from morpheus.wait import wait_until
from tests.fakes import MemoryStore
from tests.morpheus.lease.holding import Clock, held_elsewhere, hold, lease_of


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

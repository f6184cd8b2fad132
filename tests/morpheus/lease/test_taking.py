"""A forest is taken by one operation, and taken over from who sleeps, died or has a wrong clock."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from morpheus import host
from morpheus.errors import ForestBusyError, LeaseLostError
from morpheus.forest import Forest, Status
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.registry.lease import DURATION, Claim, Hold
from tests.fakes import MemoryStore
from tests.morpheus.lease.holding import Clock, held_elsewhere, hold, lease_of, oak

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

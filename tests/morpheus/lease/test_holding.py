"""Who holds a forest writes, who lost it is refused, and who releases it leaves nothing behind."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from morpheus.errors import LeaseLostError, StoreBusyError
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.lease import DURATION
from tests.fakes import MemoryStore
from tests.morpheus.lease.holding import Clock, held_elsewhere, hold, lease_of, oak

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

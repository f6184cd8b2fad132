"""The forest oak, held by this process or elsewhere, and a store's clock that is moved at will."""

from dataclasses import replace
from datetime import datetime, timedelta

from morpheus.forest import Forest, Lease
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.registry.lease import DURATION, Claim, Hold
from tests.fakes import utc_now
from tests.morpheus.planting import ELSEWHERE


class Clock:
    """A store's clock that runs *offset* beside the real one."""

    def __init__(self, offset: timedelta = timedelta(0)) -> None:
        self.offset = offset

    def __call__(self) -> datetime:
        return utc_now() + self.offset


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
        lease = Lease("grow", "r0", "ada@forge", now, now + DURATION, process or ELSEWHERE)
        forest = replace(document.forests["oak"], lease=lease)
        return replace(document.with_forest(forest), epochs={"oak": 1})

    registry.update(change)

"""What earlier readings tell: has it been so for long enough, and when will it be full? Pure.

A reading of a forest is a :class:`Point`: of each kind of load the worst node's value, since a forest is as
full as its fullest node. Points come from however many schedulers there are, so their distances differ.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

FULL = 100.0  # percent
LEAST_POINTS = 6  # of a trend
LEAST_SPAN = timedelta(minutes=10)  # of a trend
FURTHEST = 10  # spans of the history: nobody sees further
LEAST_FIT = 0.5  # the part of the values' variance that a trend explains
LEAST_RISE = 0.5  # percent over the span of the history: less is flat
LOOK_BACK = 3  # spans: what the usual distance of readings is taken from


class Kind(StrEnum):
    """What fills up; each is a percentage of what there is."""

    CPU = "cpu"
    MEMORY = "memory"
    JETSTREAM_MEMORY = "jetstream-memory"
    STORAGE = "storage"
    DISK = "disk"

    @property
    def word(self) -> str:
        """As sentences begin with it."""
        return {"cpu": "CPU", "jetstream-memory": "JetStream memory"}.get(self.value, self.value.capitalize())


@dataclass(frozen=True, slots=True)
class Point:
    """What one check saw; *worst* has the highest known value of each kind, and nothing of unknown ones.

    The rates are messages per second of all nodes together, None where they are not known.
    """

    at: datetime
    nodes: int
    worst: Mapping[Kind, float] = field(default_factory=dict)
    connections: int | None = None
    rate_in: float | None = None
    rate_out: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a value reaches *level* percent, if it goes on as it did."""

    kind: Kind
    level: float
    at: datetime

    def sentence(self, now: datetime) -> str:
        what = "is full" if self.level == FULL else f"reaches {self.level:g}%"
        return f"{self.kind.word} {what} in about {duration(self.at - now)}, if it goes on like this"


def duration(time: timedelta) -> str:
    """*time* in the largest unit of which there are two or more."""
    minutes = max(0.0, time.total_seconds() / 60)
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes / size:.0f} {unit}"
    return f"{minutes:.0f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"


def lasted(points: Sequence[Point], above: Callable[[Point], bool], now: datetime, span: timedelta) -> bool:
    """Whether *points* say that it was *above* for the whole *span* until *now*.

    They have to reach back so far, and none may lie further from the next than twice their usual distance:
    what nobody saw meanwhile is not known.
    """
    known = sorted((each for each in points if each.at <= now), key=lambda each: each.at)
    longest = usual_distance([each for each in known if each.at >= now - LOOK_BACK * span])
    if longest is None:
        return False
    later = now
    for point in reversed(known):
        if later - point.at > 2 * longest or not above(point):
            return False
        if point.at <= now - span:
            return True
        later = point.at
    return False


def usual_distance(points: Sequence[Point]) -> timedelta | None:
    """The distance of *points* in the middle of the time that they cover; None for fewer than two.

    Three schedulers that read right after each other show the distance of one, and a single outage does not
    show at all.
    """
    distances = sorted(after.at - before.at for before, after in itertools.pairwise(points))
    half = sum(distances, timedelta()) / 2
    covered = itertools.accumulate(distances, initial=timedelta())
    next(covered)
    return next((each for each, so_far in zip(distances, covered, strict=True) if so_far >= half), None)


def forecast(points: Sequence[Point], kind: Kind, level: float, now: datetime) -> Forecast | None:
    """When *kind* reaches *level* by its linear trend.

    None where it falls, is flat or there already, or where the readings are too few, cover too little time or
    scatter too much to tell.
    """
    known = [(each.at, each.worst[kind]) for each in points if kind in each.worst and each.at <= now]
    if len(known) < LEAST_POINTS:
        return None
    begin, end = min(at for at, _ in known), max(at for at, _ in known)
    seconds = [(at - begin).total_seconds() for at, _ in known]
    values = [value for _, value in known]
    span = (end - begin).total_seconds()
    if span < LEAST_SPAN.total_seconds() or len(set(values)) == 1:
        return None
    slope, start = statistics.linear_regression(seconds, values)
    if slope * span < LEAST_RISE or statistics.correlation(seconds, values) ** 2 < LEAST_FIT:
        return None
    reached = (level - start) / slope
    ahead = reached - (now - begin).total_seconds()
    if not 0 < ahead <= FURTHEST * span:
        return None
    return Forecast(kind, level, begin + timedelta(seconds=reached))

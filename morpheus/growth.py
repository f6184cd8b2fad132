"""Does a forest need more nodes, and may it have them? Decided from what was measured; nothing is done here.

The worst node counts, not the average, which hides the hot one. What is not known neither calls for nodes nor
counts as fine, and a forest of which a node is away is healed, not grown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from morpheus.errors import RefusedError
from morpheus.forest import Forest, Node, Price, Status
from morpheus.migration import is_moving
from morpheus.plan import check_budget
from morpheus.settings import Settings
from morpheus.trend import FULL, Forecast, Kind, Point, duration, forecast, lasted

Number = TypeVar("Number", int, float)

CURRENT = "current"  # the state of a node that is well
LOCAL = "local"  # the provider whose machines are all this computer
OF_MACHINES = {Kind.CPU, Kind.MEMORY, Kind.DISK}
CLUSTER = 3  # nodes of the smallest cluster in which one may fail


@dataclass(frozen=True, slots=True)
class Policy:
    """When a forest grows, and how far; thresholds are percentages, *budget* EUR a month."""

    enabled: bool = True
    thresholds: Mapping[Kind, float] = field(default_factory=lambda: dict.fromkeys(Kind, 80.0))
    max_nodes: int = 10
    cooldown: timedelta = timedelta(minutes=15)
    sustained: timedelta = timedelta()
    odd: bool = False
    budget: float | None = None

    @classmethod
    def of(cls, settings: Settings, threshold: float | None = None) -> "Policy":
        """That of the settings; *threshold* takes the place of every threshold."""
        growth = settings.growth
        memory, storage = growth.threshold_memory, growth.threshold_storage
        thresholds = {
            Kind.CPU: growth.threshold_cpu,
            Kind.MEMORY: memory,
            Kind.JETSTREAM_MEMORY: memory,
            Kind.STORAGE: storage,
            Kind.DISK: storage,
        }
        return cls(
            enabled=growth.enabled,
            thresholds=thresholds if threshold is None else dict.fromkeys(Kind, threshold),
            max_nodes=growth.max_nodes,
            cooldown=timedelta(minutes=growth.cooldown_minutes),
            sustained=timedelta(minutes=growth.sustained_minutes),
            odd=growth.step == "odd",
            budget=settings.budget.max_monthly_eur,
        )


@dataclass(frozen=True, slots=True)
class Vitals:
    """What was measured of one node; None is unknown, never 0.

    ``state`` is "current" or says what is wrong. ``loads`` are percentages of the machine's cores, memory
    and disk, and of JetStream's limits; what is not known is not in it. ``server_memory`` is bytes of the
    server's process, ``messages_*`` are totals since it began, ``rate_*`` messages per second.
    """

    node: str
    state: str = ""
    reachable: bool | None = None
    lagging: bool | None = None
    loads: Mapping[Kind, float] = field(default_factory=dict)
    server_memory: int | None = None
    connections: int | None = None
    messages_in: int | None = None
    messages_out: int | None = None
    rate_in: float | None = None
    rate_out: float | None = None
    slow_consumers: int | None = None
    slow_consumers_growing: bool | None = None

    @property
    def label(self) -> str:
        return Node(self.node).label

    @property
    def is_well(self) -> bool:
        return bool(self.reachable) and self.state == CURRENT


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a verdict is made from.

    Args:
        forest: as it is recorded.
        vitals: of its nodes.
        now: the time of the registry's store.
        fault: why its servers do not form what they should; empty when they do, or when nobody can tell.
        unread: why nobody could look; empty when somebody did.
        history: earlier readings of this planting.
        recorded: all forests of the registry, for the budget.
        price: what each new node costs at most; None where that is not known.
    """

    forest: Forest
    vitals: Sequence[Vitals]
    now: datetime
    fault: str = ""
    unread: str = ""
    history: Sequence[Point] = ()
    recorded: Mapping[str, Forest] = field(default_factory=dict)
    price: Price | None = None


class Outcome(StrEnum):
    """What a verdict comes to."""

    GROW = "grow"
    NOTHING = "nothing"
    MAY_NOT = "may-not"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class Why(StrEnum):
    """Why a forest that needs nodes may not have them."""

    MAX_NODES = "max-nodes"
    EMBEDDED = "embedded"
    ONE_MACHINE = "one-machine"
    COOLDOWN = "cooldown"
    NOT_SUSTAINED = "not-sustained"
    BUDGET = "budget"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason against, and its words: ``it would grow, but <words>``."""

    why: Why
    words: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A value above its threshold, both in percent."""

    node: str
    kind: Kind
    value: float
    threshold: float

    @property
    def sentence(self) -> str:
        return f"{self.kind.word} above {self.threshold:g}% on {Node(self.node).label}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and why.

    ``wanted`` is the number of nodes to add now, 0 unless the outcome is to grow; ``suggested`` is the number
    that the load calls for, also where ``obstacles`` stand in the way. Of those the first weighs most; where
    the only one is that growth is disabled, a person may still say yes. ``reasons`` are the breaches, or what
    is wrong or unknown, as sentences without a full stop.
    """

    outcome: Outcome
    suggested: int = 0
    breaches: tuple[Breach, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    reasons: tuple[str, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    price: Price | None = None

    @property
    def wanted(self) -> int:
        return self.suggested if self.outcome is Outcome.GROW else 0

    @property
    def why(self) -> Why | None:
        return self.obstacles[0].why if self.obstacles else None

    @property
    def a_person_may(self) -> bool:
        """Whether all that stands in the way is that nobody grows unasked."""
        return self.outcome is Outcome.GROW or {each.why for each in self.obstacles} == {Why.DISABLED}

    @property
    def sentence(self) -> str:
        reasons = "; ".join(self.reasons)
        if self.outcome is Outcome.GROW:
            return f"It needs {self.suggested} more node(s): {reasons}."
        if self.outcome is Outcome.MAY_NOT:
            return f"It would grow by {self.suggested} node(s) ({reasons}), but {_joined(self.obstacles)}."
        if self.outcome is Outcome.UNHEALTHY:
            return f"It does not grow while it is unhealthy: {reasons}."
        if self.outcome is Outcome.UNKNOWN:
            return f"Whether it needs nodes is not known: {reasons}."
        return f"It needs no more nodes: {reasons}."


def judge(facts: Facts, policy: Policy) -> Verdict:
    """The verdict over *facts*."""
    breaches = tuple(each for vitals in facts.vitals for each in _breaches(vitals, policy))
    forecasts = tuple(_forecasts(facts, policy))
    if faults := _faults(facts):
        return Verdict(Outcome.UNHEALTHY, breaches=breaches, reasons=faults, forecasts=forecasts)
    unknown = tuple(_unknown(facts))
    if _unseen(facts) or (unknown and not breaches):
        return Verdict(Outcome.UNKNOWN, breaches=breaches, reasons=unknown, forecasts=forecasts)
    if not breaches:
        count = len(facts.forest.staying)
        fine = (
            f"all {count} nodes are below every threshold" if count > 1 else "it is below every threshold",
        )
        return Verdict(Outcome.NOTHING, reasons=fine, forecasts=forecasts)
    step = steps(len(facts.forest.staying), odd=policy.odd)
    obstacles = tuple(_obstacles(facts, policy, breaches, step))
    return Verdict(
        Outcome.MAY_NOT if obstacles else Outcome.GROW,
        suggested=step,
        breaches=breaches,
        obstacles=obstacles,
        reasons=tuple(each.sentence for each in breaches),
        forecasts=forecasts,
        price=sum((facts.price,) * step, Price()) if facts.price is not None else None,
    )


def steps(nodes: int, *, odd: bool) -> int:
    """How many nodes a forest of so many *nodes* grows by: one becomes three, since two may not fail."""
    if nodes < CLUSTER:
        return CLUSTER - nodes
    return 1 + nodes % 2 if odd else 1


def cooling(last_expansion: datetime | None, now: datetime, cooldown: timedelta) -> timedelta:
    """How long the cooldown lasts from *now* on; an expansion in the future counts as one of now."""
    if last_expansion is None:
        return timedelta()
    return max(timedelta(), cooldown - max(timedelta(), now - last_expansion))


def point(facts: Facts) -> Point:
    """What a check saw, for the history."""
    kinds = {kind: [each.loads[kind] for each in facts.vitals if kind in each.loads] for kind in Kind}
    return Point(
        facts.now,
        len(facts.vitals),
        {kind: max(values) for kind, values in kinds.items() if values},
        total(each.connections for each in facts.vitals),
        total(each.rate_in for each in facts.vitals),
        total(each.rate_out for each in facts.vitals),
    )


def total(values: Iterable[Number | None]) -> Number | None:
    """The sum of what is known; None where nothing is."""
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _breaches(vitals: Vitals, policy: Policy) -> Iterator[Breach]:
    for kind in Kind:
        value, threshold = vitals.loads.get(kind), policy.thresholds[kind]
        if value is not None and value > threshold:
            yield Breach(vitals.node, kind, value, threshold)


def _faults(facts: Facts) -> tuple[str, ...]:
    """What has to be mended first."""
    forest = facts.forest
    if is_moving(forest):
        return (
            "its streams are on their way into a cluster; where nobody is at it, growing again finishes it",
        )
    if forest.status == Status.GROWING:
        return ("an expansion was begun; where nobody is at it any more, growing again goes on with it",)
    if forest.status != Status.ACTIVE:
        return (f"the forest is {forest.status}",)
    if not forest.staying:
        return ("it has no nodes",)
    away = tuple(f"{each.label} is {each.state}" for each in facts.vitals if each.reachable is False)
    return away or ((facts.fault,) if facts.fault else ())


def _unseen(facts: Facts) -> bool:
    """Whether there is a node of which nothing is known; one that is away is another matter."""
    seen = {each.node for each in facts.vitals if each.reachable and each.loads}
    return not seen.issuperset(node.name for node in facts.forest.staying)


def _unknown(facts: Facts) -> Iterator[str]:
    """What nobody could measure."""
    if facts.unread:
        yield facts.unread.rstrip(".")
        return
    measured = {each.node: each for each in facts.vitals}
    for node in facts.forest.staying:
        loads = measured[node.name].loads if node.name in measured else {}
        if missing := [kind.word for kind in Kind if kind not in loads]:
            yield f"{', '.join(missing)} of {node.label} cannot be measured"


def _obstacles(facts: Facts, policy: Policy, breaches: Sequence[Breach], step: int) -> Iterator[Obstacle]:
    """What keeps it from growing by *step*: first what no waiting mends, last what a person decides."""
    forest, count = facts.forest, len(facts.forest.staying)
    if count + step > policy.max_nodes:
        words = f"it would have {count + step} nodes, and growth.max_nodes is {policy.max_nodes}"
        yield Obstacle(Why.MAX_NODES, words)
    if forest.is_embedded and count < CLUSTER:
        words = "its workload owns the streams of its only server, and a cluster would delete them"
        yield Obstacle(Why.EMBEDDED, words)
    if forest.provider == LOCAL and {each.kind for each in breaches} <= OF_MACHINES:
        words = "its nodes share this computer, and more of them take no load from it"
        yield Obstacle(Why.ONE_MACHINE, words)
    if left := cooling(forest.last_expansion, facts.now, policy.cooldown):
        yield Obstacle(Why.COOLDOWN, f"it has grown, or tried to, and rests for {duration(left)} more")
    if policy.sustained and not _has_lasted(facts, policy, breaches):
        words = f"its readings do not show that for {duration(policy.sustained)} without a gap"
        yield Obstacle(Why.NOT_SUSTAINED, words)
    if words := _too_dear(facts, policy, step):
        yield Obstacle(Why.BUDGET, words)
    if not policy.enabled:
        yield Obstacle(Why.DISABLED, "growth is disabled")


def _has_lasted(facts: Facts, policy: Policy, breaches: Sequence[Breach]) -> bool:
    """Whether one of the kinds that are above was so for long enough since the last expansion."""
    points = [*_since(facts), point(facts)]
    return any(
        lasted(
            points,
            lambda each, kind=kind: each.worst.get(kind, 0.0) > policy.thresholds[kind],  # type: ignore[misc]
            facts.now,
            policy.sustained,
        )
        for kind in {each.kind for each in breaches}
    )


def _since(facts: Facts) -> list[Point]:
    """The earlier readings of the forest as large as it is."""
    last = facts.forest.last_expansion
    return [each for each in facts.history if each.at < facts.now and (last is None or each.at > last)]


def _too_dear(facts: Facts, policy: Policy, step: int) -> str:
    """Why the budget does not allow *step* more nodes; empty where it does."""
    if policy.budget is None:
        return ""
    if facts.price is None:
        budget = f"budget.max_monthly_eur ({policy.budget:g})"
        return f"what a node costs is not known, so that {budget} cannot be kept"
    price = facts.price.metadata
    try:
        born = (Node(name, metadata=price) for name in facts.forest.fresh_names(step))
        check_budget(facts.recorded, facts.forest.with_nodes(*born), policy.budget)
    except RefusedError as error:
        return str(error).removesuffix(" Nothing was created.").rstrip(".")
    return ""


def _forecasts(facts: Facts, policy: Policy) -> Iterator[Forecast]:
    """When thresholds are reached, and when storage is full."""
    points = [*_since(facts), point(facts)]
    for kind in Kind:
        levels = [policy.thresholds[kind]]
        if kind in {Kind.STORAGE, Kind.DISK} and levels != [FULL]:
            levels.append(FULL)
        for level in levels:
            if found := forecast(points, kind, level, facts.now):
                yield found


def _joined(obstacles: Sequence[Obstacle]) -> str:
    return ", and ".join(each.words for each in obstacles)


def asked_by_a_person(policy: Policy) -> Policy:
    """*policy* for who was asked and said yes: a person grows a forest that nothing grows unasked."""
    return replace(policy, enabled=True)

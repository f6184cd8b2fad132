"""Forests and readings of them as tests of growth need them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from morpheus.forest import BROUGHT, Forest, Node, Price, Status
from morpheus.growth import Facts, Policy, Vitals
from morpheus.trend import Kind, Point

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
PRICE = Price(Decimal("0.0061"), Decimal("3.92"))
IDLE = dict.fromkeys(Kind, 10.0)
POLICY = Policy()


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def oak(nodes: int = 3, *, brought: bool = False, **more: Any) -> Forest:
    metadata = {**PRICE.metadata, **(BROUGHT if brought else {})}
    names = [f"oak-node-{k}" for k in range(1, nodes + 1)]
    born = (Node(name, f"10.0.0.{k}", Status.ACTIVE, metadata=metadata) for k, name in enumerate(names, 1))
    return Forest("oak", "hetzner", nodes=tuple(born), **more)


def vitals(node: int, **loads: float | None) -> Vitals:
    """The node's vitals: idle but for *loads*, of which None is unknown."""
    given = {Kind(kind.replace("_", "-")): value for kind, value in loads.items()}
    known = {kind: value for kind, value in {**IDLE, **given}.items() if value is not None}
    return Vitals(f"oak-node-{node}", "current", reachable=True, lagging=False, loads=known)


def facts(forest: Forest, *measured: Vitals, **more: Any) -> Facts:
    """What is known when *measured* is all that is not idle."""
    special = {each.node: each for each in measured}
    idle = (vitals(node.number) for node in forest.staying)
    told = [special.get(each.node, each) for each in idle]
    given: dict[str, Any] = {"now": NOW, "recorded": {"oak": forest}, "price": PRICE, **more}
    return Facts(forest, told, **given)


def readings(
    values: Sequence[float], *, every: float = 5, kind: Kind = Kind.CPU, last: datetime | None = None
) -> list[Point]:
    """One reading after the other, *every* so many minutes, the newest that long before now."""
    end = last or NOW - minutes(every)
    ago = range(len(values) - 1, -1, -1)
    return [Point(end - k * minutes(every), 3, {kind: each}) for k, each in zip(ago, values, strict=True)]

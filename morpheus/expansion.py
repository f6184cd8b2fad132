"""Growing and shrinking, as changes of a forest's record; nothing is done here.

The right to expand is one write under the lease: what was decided still has to hold in the very document
in which the new names are reserved and the time of the expansion is noted. So of two that decided alike one
grows and the other is told, and whoever dies afterwards leaves the cooldown as it is.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from morpheus.errors import InvalidInputError, OvertakenError, RefusedError
from morpheus.forest import MAX_NODES, Forest, Node, Price, Status, check_count, size_word
from morpheus.growth import CLUSTER, cooling
from morpheus.migration import check_moved
from morpheus.trend import duration


@dataclass(frozen=True, slots=True)
class Decision:
    """That a forest is to have so many *nodes*.

    It was made when the forest had *seen* nodes and had last *expanded* at that time; *most* is the highest
    number allowed, *rest* the cooldown that has to be over (nothing where a person decides).
    """

    nodes: int
    seen: int
    expanded: datetime | None
    most: int = MAX_NODES
    rest: timedelta = timedelta()


def claimed(forest: Forest, decision: Decision, run: str, now: datetime, price: Price) -> Forest:
    """*forest* with the names of its new nodes reserved, at most at *price* each, and the expansion noted.

    One whose last expansion was not finished gets no more: that one is completed, or taken back, by *run*.

    Raises:
        OvertakenError: it is not as it was when that was decided.
        RefusedError: it may not grow so far, or not now.
        InvalidInputError: it cannot have so many nodes.
    """
    if forest.status == Status.GROWING:
        unfinished = (node for node in forest.staying if node.status == Status.PROVISIONING)
        return forest.with_nodes(*(replace(node, run=run) for node in unfinished))
    _check_may_grow(forest)
    count = len(forest.staying)
    if (count, forest.last_expansion) != (decision.seen, decision.expanded):
        raise OvertakenError(
            f"{forest.name} has {count} node(s) and not the {decision.seen} that it had a moment ago, or has "
            "grown since: another one was faster, so nothing was changed. Look again before it grows on."
        )
    if check_count(decision.nodes) <= count:
        raise adds_only(forest)
    if decision.nodes > decision.most:
        raise RefusedError(
            f"{forest.name} would have {decision.nodes} nodes, and growth.max_nodes is {decision.most}: "
            "nothing was changed. Raise it, or name a smaller number."
        )
    if left := cooling(forest.last_expansion, now, decision.rest):
        raise RefusedError(
            f"{forest.name} has grown, and rests for {duration(left)} more (growth.cooldown_minutes): "
            "nothing was changed."
        )
    names = forest.fresh_names(decision.nodes - count)
    born = (Node(name, created_at=now, run=run, metadata=price.metadata) for name in names)
    noted = _noted(forest.last_expansion, now)
    return replace(forest.with_nodes(*born), status=Status.GROWING, last_expansion=noted)


def adds_only(forest: Forest) -> InvalidInputError:
    """Somebody wants *forest* to grow to no more nodes than it has."""
    count = len(forest.staying)
    out = f", or take one out with morpheus node remove {forest.name} NODE" if count > CLUSTER else ""
    return InvalidInputError(
        f"{forest.name} has {count} node(s), and growing only adds some: name more than that{out}."
    )


def _noted(last: datetime | None, now: datetime) -> datetime:
    """The time that an expansion *now* is given: one as the registry writes it, and later than the *last*.

    So a decision made before it never fits again, whatever the clock of the store does.
    """
    written = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return written if last is None or last < written else last + timedelta(milliseconds=1)


def _check_may_grow(forest: Forest) -> None:
    name = forest.name
    _check_stays(forest)
    whole = forest.status == Status.ACTIVE and forest.nodes and forest.staying == forest.nodes
    if not whole:
        raise RefusedError(
            f"{name} is not whole: nothing was changed. Finish what was begun with morpheus plant, by its "
            "name, then let it grow."
        )
    if len(forest.staying) >= CLUSTER:
        return
    if forest.is_embedded:
        raise RefusedError(
            f"The workload of {name} owns the streams of its only server, and a cluster would delete them: "
            "nothing was changed. Plant a forest of three beside it, and move there."
        )


def _check_stays(forest: Forest) -> None:
    if forest.status == Status.DELETING:
        raise RefusedError(
            f"{forest.name} is being torn down: finish that with morpheus teardown {forest.name}."
        )


def whole_name(forest: Forest, node: str) -> str:
    """The name of the node that is meant by *node*: ``node-4`` is that of this *forest*."""
    return next((each.name for each in forest.nodes if node in {each.label, str(each.number)}), node)


def check_departure(forest: Forest, name: str) -> None:
    """Raise unless the node *name* may be taken out of *forest*.

    Raises:
        InvalidInputError: it has no such node.
        RefusedError: too few would be left, its workload owns the cluster, its streams are on their way into
            it, or all of it is being torn down.
    """
    if name not in {node.name for node in forest.nodes}:
        names = ", ".join(node.label for node in forest.nodes)
        raise InvalidInputError(f"{forest.name} has no node {name}. It has {names}.")
    _check_stays(forest)
    check_moved(forest)
    if forest.is_embedded:
        raise RefusedError(
            f"The workload of {forest.name} owns its cluster, so nobody else can move streams away from "
            f"{name}: nothing was changed."
        )
    rest = len(forest.staying) - (not forest.node(name).leaving)
    if rest < CLUSTER:
        raise RefusedError(
            f"Without {name} the forest {forest.name} would have {rest} node(s), and a cluster needs "
            f"{CLUSTER}: nothing was changed. To give all of it up: morpheus teardown {forest.name}"
        )


def recalled(forest: Forest, *names: str) -> Forest:
    """*forest* with the nodes *names*, which were on their way out, as its own again."""
    return forest.with_nodes(*(replace(forest.node(name), status=Status.ACTIVE) for name in names))


def shrunk(forest: Forest, *names: str) -> Forest:
    """*forest* without the nodes *names*, whose machines are gone, and active when all others are."""
    rest = forest.without(*names)
    whole = all(node.status == Status.ACTIVE for node in rest.nodes)
    size = size_word(len(rest.staying))
    return replace(rest, size=size, status=Status.ACTIVE if whole else rest.status)

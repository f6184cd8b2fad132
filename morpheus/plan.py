"""What to do, decided from what is wanted, recorded and seen; nothing is done here.

The same functions serve the run and its dry run. A plan stopped after any step and made again from what
is then recorded and seen ends in the same place: tests/morpheus/test_plan.py stops it everywhere.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from morpheus.cloud import Server
from morpheus.errors import RefusedError
from morpheus.forest import Forest, Node, Price, Status, check_count, check_name, size_word
from morpheus.machine import StoreState


class Verb(StrEnum):
    """One kind of step, in words that a dry run prints."""

    RESERVE = "reserve the name"
    SEAL = "make sure of the secrets of"
    PREPARE = "make sure of the SSH key, firewall and placement group of"
    RETIRE = "retire"
    START = "start"
    REMOVE_PEER = "remove from the cluster"
    DELETE = "delete"
    DROP = "drop the record of"
    REVIVE = "make sure of the machine of"
    CREATE = "create"
    RECORD = "record the address of"
    ADMIT = "open the firewall between the nodes of"
    ENTER = "enter the machine of"
    BOOTSTRAP = "run the bootstrap script on"
    INSTALL = "install the programs on"
    OWN_KEY = "give a host key of its own to"
    CONFIGURE = "configure"
    VERIFY = "verify the cluster of"
    ACTIVATE = "record as active"
    FORGET = "forget the forest"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do to one node, or (with a forest's name) to the forest."""

    verb: Verb
    subject: str

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is under a node's name."""

    store: StoreState = StoreState.GONE
    running: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """The forest to be: ``nodes`` None means as many as it has, or *default* for a new one.

    ``price`` is what each new node costs at most.
    """

    name: str
    nodes: int | None
    provider: str
    location: str = ""
    registry_url: str = ""
    run: str | None = None
    default: int = 3
    price: Price = field(default_factory=Price)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_count(self.default if self.nodes is None else self.nodes)


def reserve(forest: Forest | None, wanted: Wanted, now: datetime) -> Forest:
    """The record with which a plant begins: the old one, or a new one with all names reserved.

    Raises:
        RefusedError: it is being torn down, has another size, or lives elsewhere.
    """
    if forest is None:
        count = wanted.default if wanted.nodes is None else wanted.nodes
        born = Forest(
            wanted.name,
            provider=wanted.provider,
            location=wanted.location,
            size=size_word(count),
            status=Status.PROVISIONING,
            created_at=now,
            registry_url=wanted.registry_url,
            run=wanted.run,
        )
        return born.with_nodes(*(_reserved(name, wanted, now) for name in born.fresh_names(count)))
    if forest.status == Status.DELETING:
        raise RefusedError(
            f"{forest.name} is being torn down: finish that with morpheus teardown {forest.name}, then plant."
        )
    if forest.provider and forest.provider != wanted.provider:
        raise RefusedError(
            f"{forest.name} is a forest on {forest.provider}, not on {wanted.provider}: choose another name."
        )
    if strange := [node.name for node in forest.nodes if not is_own(node, forest.name)]:
        raise RefusedError(
            f"The record of {forest.name} lists {', '.join(strange)}, which is no node of it: nothing was "
            "changed. Take that out of the registry, or put its newest backup back."
        )
    count = len(forest.staying)
    if wanted.nodes is not None and wanted.nodes != count:
        raise RefusedError(
            f"{forest.name} has {count} node(s), not {wanted.nodes}: plant heals a forest at its size; "
            f"to change the size use morpheus grow {forest.name}."
        )
    return forest


def _reserved(name: str, wanted: Wanted, now: datetime) -> Node:
    return Node(name, created_at=now, run=wanted.run, metadata=wanted.price.metadata)


def check_budget(before: Mapping[str, Forest], forest: Forest, most: float | None) -> None:
    """Raise RefusedError when *forest* lets all forests together cost more than *most* EUR a month.

    *before* are the forests as recorded; one that gets no dearer is never refused. A node of others whose
    price nobody recorded counts as much as a new one.
    """
    usual = max((node.price for node in forest.staying), key=lambda price: price.monthly, default=Price())
    nodes = [node for each in before.values() if each.name != forest.name for node in each.nodes]
    others = sum((node.price if node.price.monthly else usual for node in nodes), Price())
    known = before.get(forest.name)
    total = others + forest.price
    dearer = forest.price.monthly > (known.price.monthly if known else 0)
    if most is not None and known is None and not usual.monthly:
        raise RefusedError(
            f"What {forest.name} would cost is not known, so that budget.max_monthly_eur ({most:g}) cannot "
            "be kept. Nothing was created: look at machine.hetzner.server_type, or lift the budget."
        )
    if most is not None and dearer and total.monthly > Decimal(str(most)):
        raise RefusedError(
            f"{forest.name} would cost up to EUR {forest.price.monthly:.2f} a month, and all forests "
            f"together EUR {total.monthly:.2f}: budget.max_monthly_eur is {most:g}. Nothing was created."
        )


def lost(forest: Forest, seen: Mapping[str, Sight]) -> tuple[str, ...]:
    """The nodes whose store is gone: they are never started again under their old names.

    A node without a recorded address was never started, so it has nothing to lose. Nor has one whose machine
    is there, in a forest that never was active and of which no node holds anything: its start failed.
    """
    held = any(sight.store is StoreState.HELD for sight in seen.values())
    spared = seen if forest.status == Status.PROVISIONING and not held else ()
    return tuple(
        node.name
        for node in forest.staying
        if node.ip and node.name not in spared and seen.get(node.name, Sight()).store is StoreState.GONE
    )


def check_majority(forest: Forest, seen: Mapping[str, Sight]) -> None:
    """Raise RefusedError unless a majority of the recorded nodes still hold their stores."""
    gone = lost(forest, seen)
    members = [node for node in forest.nodes if _is_member(forest, node, seen)]
    holders = [node.name for node in members if not node.leaving and node.name not in gone]
    if not gone or 2 * len(holders) > len(members):
        return
    if len(members) == 1:
        raise RefusedError(
            f"The store of {gone[0]}, the only node of {forest.name}, is gone, and with it every stream. "
            f"Put its folder back from a copy and plant again, or begin anew: morpheus teardown {forest.name}"
        )
    left = f"{', '.join(holders)} still hold their data" if holders else "no node holds data"
    raise RefusedError(
        f"{forest.name} lost the stores of {', '.join(gone)}: without a majority of its {len(members)} nodes "
        f"it cannot be healed safely, so nothing was changed ({left}). Put the folders back if they were "
        f"moved or copied after the servers last stopped (an older copy would outvote newer "
        "data) and plant again; docs/recovery.md shows how to rescue the streams of a survivor. "
        f"To give all of it up: morpheus teardown {forest.name}"
    )


def _is_member(forest: Forest, node: Node, seen: Mapping[str, Sight]) -> bool:
    """Whether the cluster counts *node*: one that was never started joins only when it first starts.

    (The nodes that a forest is born with count each other from the beginning.)
    """
    fresh = seen.get(node.name, Sight()).store is StoreState.FRESH
    return bool(node.ip) and (forest.status == Status.PROVISIONING or not fresh)


def plan_plant(forest: Forest, seen: Mapping[str, Sight]) -> tuple[Step, ...]:
    """The steps that make *forest*, as recorded by :func:`reserve`, complete and ready.

    Survivors start before lost peers are removed, and peers are removed before fresh nodes join: so a
    plant that stops in between leaves a smaller cluster with a majority, never a larger one without. All
    RETIRE and RESERVE steps are one write of the record (:func:`replaced`), for else one could stop between
    them and the forest would come back smaller.

    Raises:
        RefusedError: too many stores are gone.
    """
    check_majority(forest, seen)
    gone = lost(forest, seen)
    fresh = forest.fresh_names(len(gone))
    leaving = [*(node.name for node in forest.nodes if node.leaving), *gone]
    unborn = [*(node.name for node in forest.staying if not node.ip), *fresh]
    survivors = [node.name for node in forest.staying if node.ip and node.name not in gone]
    stopped = [name for name in survivors if not seen.get(name, Sight()).running]
    steps: list[Step] = []
    if leaving:
        steps += [
            *_each(Verb.REVIVE, stopped),
            *_each(Verb.RECORD, stopped),
            *_each(Verb.CONFIGURE, stopped),
            *_each(Verb.START, stopped),
            *_each(Verb.RETIRE, gone),
            *_each(Verb.RESERVE, fresh),
            *_each(Verb.REMOVE_PEER, leaving),
            *_each(Verb.DELETE, leaving),
            *_each(Verb.DROP, leaving),
        ]
        stopped = []
    steps += [
        *_each(Verb.REVIVE, stopped),
        *_each(Verb.CREATE, unborn),
        *_each(Verb.RECORD, [*stopped, *unborn]),
        *_each(Verb.CONFIGURE, [*survivors, *unborn]),
        *_each(Verb.START, [*stopped, *unborn]),
        Step(Verb.VERIFY, forest.name),
        Step(Verb.ACTIVATE, forest.name),
    ]
    return tuple(steps)


def is_own(node: Node, forest: str) -> bool:
    """Whether *node* bears a name of *forest*; another program may have listed anything."""
    return bool(node.number) and node.name == f"{forest}-node-{node.number}"


def plan_teardown(forest: Forest | None, name: str, there: Iterable[str]) -> tuple[Step, ...]:
    """The steps that leave nothing of the forest *name*: machines first, the record last.

    *there* names its servers; those that no record knows go as well.
    """
    recorded = [node.name for node in forest.nodes if is_own(node, name)] if forest else []
    staying = [node.name for node in forest.staying] if forest else []
    servers = dict.fromkeys([*recorded, *there])
    return (
        *_each(Verb.RETIRE, staying),
        *_each(Verb.DELETE, list(servers)),
        *([Step(Verb.FORGET, name)] if forest else []),
    )


def _each(verb: Verb, names: list[str] | tuple[str, ...]) -> list[Step]:
    return [Step(verb, name) for name in names]


def subjects(steps: tuple[Step, ...], verb: Verb) -> tuple[str, ...]:
    """What *verb* is to be done to, in order."""
    return tuple(dict.fromkeys(step.subject for step in steps if step.verb is verb))


def retired(forest: Forest, names: tuple[str, ...]) -> Forest:
    """*forest* with *names* on their way out: no program routes to them any more."""
    return forest.with_nodes(*(replace(forest.node(name), status=Status.DELETING) for name in names))


def replaced(  # noqa: PLR0913, PLR0917  # each one is a fact of the replacement
    forest: Forest,
    gone: tuple[str, ...],
    fresh: tuple[str, ...],
    streams: tuple[str, ...],
    run: str | None,
    now: datetime,
    price: Price = Price(),  # noqa: B008  # frozen
) -> Forest:
    """*forest* with *gone* on their way out, *fresh* reserved in their place; *streams* go with *gone*.

    *price* is what each fresh one costs at most: it counts from this write on.

    Once the peers are removed nothing else tells of the streams, so they stand here until the forest is
    active.
    """
    born = (Node(name, created_at=now, run=run, metadata=price.metadata) for name in fresh)
    lost = tuple(sorted({*forest.lost_streams, *streams}))
    return replace(retired(forest, gone).with_nodes(*born), lost_streams=lost)


def addressed(forest: Forest, servers: Sequence[Server]) -> Forest:
    """*forest* with the addresses of its nodes, as other programs read them."""
    return forest.with_nodes(
        *(
            replace(
                forest.node(server.name),
                ip=server.ip,
                metadata={**forest.node(server.name).metadata, **server.metadata},
            )
            for server in servers
        )
    )


def keyed(forest: Forest, host_keys: Mapping[str, str], ssh_port: int) -> Forest:
    """*forest* with the host keys, by node, with which machines are to be born; before they are made.

    Where SSH answers on them is recorded as well: the setting may be another one later.
    """
    born = (_told(forest.node(name), host_key=key, ssh_port=str(ssh_port)) for name, key in host_keys.items())
    return forest.with_nodes(*born)


def offered(forest: Forest, host_keys: Mapping[str, str]) -> Forest:
    """*forest* whose machines may show another host key, by node, from now on; both are accepted."""
    next_ = (_told(forest.node(name), host_key_next=key) for name, key in host_keys.items())
    return forest.with_nodes(*next_)


def taken(node: Node) -> Node:
    """*node* once its machine shows the other host key, and no earlier one is accepted any more."""
    rest = {key: value for key, value in node.metadata.items() if key != "host_key_next"}
    shown = node.metadata.get("host_key_next", node.metadata["host_key"])  # the write may come twice
    return replace(node, metadata=rest | {"host_key": shown})


def _told(node: Node, **more: str) -> Node:
    return replace(node, metadata={**node.metadata, **more})


def activated(forest: Forest) -> Forest:
    """*forest* once it is ready."""
    nodes = (replace(node, status=Status.ACTIVE) for node in forest.staying)
    size = size_word(len(forest.staying))
    return replace(forest.with_nodes(*nodes), size=size, status=Status.ACTIVE, lost_streams=())


def torn(forest: Forest) -> Forest:
    """*forest* on its way out with all its nodes."""
    return replace(retired(forest, tuple(node.name for node in forest.nodes)), status=Status.DELETING)


def emptied(forest: Forest) -> Forest:
    """*forest* once its machines are known to be gone; only what they shared may be left."""
    return forest.without(*(node.name for node in forest.nodes))


def undone(forest: Forest, run: str, removed: Collection[str]) -> Forest | None:
    """*forest* after the machines *removed*, made by *run*, are gone; None when nothing else was there.

    The names of a forest that the run itself brought forth are given up. Others stay reserved: a replacement
    that failed is still missing, and planting again makes it.
    """
    born = forest.run == run and forest.status == Status.PROVISIONING
    made = {node.name for node in made_by(forest, run)} if born else set()
    emptied = (
        replace(node, ip=None, metadata=node.price.metadata)
        for node in forest.nodes
        if node.name in removed and node.name not in made
    )
    rest = forest.with_nodes(*emptied).without(*(made & {*removed}))
    if forest.run == run and forest.status == Status.PROVISIONING and not rest.nodes:
        return None
    return rest


def made_by(forest: Forest, run: str) -> tuple[Node, ...]:
    """The nodes that *run* began to make and has not finished, those that it began to remove included."""
    unfinished = {Status.PROVISIONING, Status.DELETING}
    return tuple(node for node in forest.nodes if node.run == run and node.status in unfinished)

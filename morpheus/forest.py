"""Forests, nodes and leases: what they are, independent of where they run or are recorded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from morpheus.errors import InvalidInputError, RefusedError

MAX_NAME = 50  # a node's name, "<forest>-node-<k>", must stay a DNS label of at most 63 characters
MAX_NODES = 100
MAX_NUMBER = 9_999_999  # of a node: with the longest forest name that makes 63 characters
MAX_PORT = 65_535

BROUGHT = {"nats_server": "workload"}  # in the metadata of a node whose workload brings its own NATS server

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NODE = re.compile(r"(?P<forest>.+)-node-(?P<number>[1-9][0-9]{0,6})")


class Status(StrEnum):
    """Where a forest or a node stands; other programs may write other words."""

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    GROWING = "growing"
    DELETING = "deleting"


class Size(StrEnum):
    """The sizes a person chooses from; anything else is recorded as custom."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"

    @property
    def nodes(self) -> int:
        return {Size.SMALL: 1, Size.MEDIUM: 3, Size.LARGE: 5}[self]


def whole_number(text: str, most: int) -> int | None:
    """The number from 1 to *most* that *text* is in decimal digits, None when it is anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        return None
    number = int(text)
    return number if 1 <= number <= most else None


def size_word(nodes: int) -> str:
    """The word the registry records for *nodes* nodes: small, medium, large or custom."""
    return next((size.value for size in Size if size.nodes == nodes), "custom")


def check_name(name: str) -> str:
    """Return *name* when it can name a forest (a DNS label of at most 50 characters)."""
    if len(name) > MAX_NAME or not _LABEL.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} cannot name a forest: use 1 to {MAX_NAME} lower-case letters, digits and dashes, "
            "with a letter or digit at both ends, for example quiet-oak."
        )
    return name


def check_count(nodes: int) -> int:
    """Return *nodes* when a forest can have that many."""
    if not 1 <= nodes <= MAX_NODES:
        raise InvalidInputError(f"A forest has 1 to {MAX_NODES} nodes, not {nodes}; 1, 3 or 5 suit most.")
    if nodes == 2:  # noqa: PLR2004  # the one size that is worse than its smaller neighbour
        raise InvalidInputError(
            "Two nodes are worse than one: each of them is needed for a majority, so neither may fail. "
            "Use 1 or 3."
        )
    return nodes


def wanted_nodes(size: str | None, nodes: int | None) -> int | None:
    """How many nodes *size* or *nodes* asks for; None: nothing was asked."""
    if size and nodes is not None and Size(size).nodes != nodes:
        raise InvalidInputError(f"{size} means {Size(size).nodes} node(s), not {nodes}: give one of them.")
    return Size(size).nodes if size and nodes is None else nodes


def size_warning(nodes: int) -> str | None:
    """A sentence for sizes that work but buy nothing, else None."""
    if nodes % 2:
        return None
    return f"{nodes} nodes survive no more failures than {nodes - 1}: an odd number is the better choice."


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of one node: clients, routes between nodes, monitoring."""

    client: int = 4222
    cluster: int = 6222
    monitor: int = 8222


@dataclass(frozen=True, slots=True)
class Price:
    """What something costs in EUR, VAT included: for each hour begun, and for a month at most."""

    hourly: Decimal = Decimal(0)
    monthly: Decimal = Decimal(0)

    def __add__(self, other: "Price") -> "Price":
        return Price(self.hourly + other.hourly, self.monthly + other.monthly)

    def __str__(self) -> str:
        return f"EUR {self.hourly:.4f}/h, {self.monthly:.2f}/month"

    @property
    def metadata(self) -> Mapping[str, str]:
        """As a node's record holds it; nothing for what costs nothing."""
        return {"price_hourly": str(self.hourly), "price_monthly": str(self.monthly)} if self.monthly else {}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Price":
        """The price in a node's record; nothing where it tells none that is one."""
        try:
            price = cls(Decimal(metadata["price_hourly"]), Decimal(metadata["price_monthly"]))
        except (KeyError, InvalidOperation):
            return cls()
        known = price.hourly.is_finite() and price.monthly.is_finite()
        return price if known and min(price.hourly, price.monthly) >= 0 else cls()


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a forest and the NATS server on it. Its name is its identity, for ever.

    ``ip`` is None until the machine has an address. ``metadata`` maps strings to strings.
    ``extra`` is the node's object as it was read, so that other writers' fields survive.
    """

    name: str
    ip: str | None = None
    status: str = Status.PROVISIONING
    role: str = "node"
    created_at: datetime | None = None
    run: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def number(self) -> int:
        """The k of ``<forest>-node-<k>``; 0 for a name of another form."""
        match = _NODE.fullmatch(self.name)
        return int(match["number"]) if match else 0

    @property
    def label(self) -> str:
        """The short name that tables show."""
        return f"node-{self.number}" if self.number else self.name

    @property
    def ports(self) -> Ports:
        """Where the node listens; the standard ports where its metadata tells no other."""
        texts = {kind: self.metadata.get(f"{kind}_port", "") for kind in ("client", "cluster", "monitor")}
        read = {kind: whole_number(text, MAX_PORT) for kind, text in texts.items()}
        return replace(Ports(), **{kind: port for kind, port in read.items() if port})

    @property
    def ssh_port(self) -> int | None:
        """Where SSH answers on its machine; None where that was not recorded when it was born."""
        return whole_number(self.metadata.get("ssh_port", ""), MAX_PORT)

    @property
    def price(self) -> Price:
        return Price.of(self.metadata)

    @property
    def dns(self) -> str | None:
        """The name under which it is found; None where it has but an address."""
        return self.metadata.get("dns")

    @property
    def leaving(self) -> bool:
        return self.status == Status.DELETING

    @property
    def is_embedded(self) -> bool:
        """Whether its NATS server is one that its workload brings, which obeys nobody else."""
        return BROUGHT.items() <= self.metadata.items()


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one run to change a forest until it expires.

    ``process`` says which process of which boot of which machine holds it ({} when unknown).
    """

    operation: str
    run: str
    holder: str
    started: datetime
    expires: datetime
    process: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Migration:
    """How far the streams of a forest of one have come on their way into a cluster (migration.py).

    ``phase`` is a word of its phases, or one of a newer Morpheus; ``node`` is the one whose old store holds
    the streams, which is kept until ``kept_until`` once they have left it; ``store`` is the name of its new
    store, ``size`` how many bytes the old one held.
    """

    phase: str
    run: str
    node: str
    store: str
    began: datetime
    size: int = 0
    kept_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Forest:
    """A NATS cluster and the program that uses it.

    ``nodes`` holds every node that is reserved, alive or leaving; ``used_numbers`` every k ever given
    away, so that none is given twice; ``lost_streams`` the streams that went with nodes which are being
    replaced, until the forest is whole again; ``migration`` how far a single server has become a cluster.
    ``extra`` is the forest's object as it was read.
    """

    name: str
    provider: str = ""
    location: str = ""
    size: str = ""
    status: str = Status.ACTIVE
    created_at: datetime | None = None
    registry_url: str = ""
    last_expansion: datetime | None = None
    run: str | None = None
    nodes: tuple[Node, ...] = ()
    used_numbers: tuple[int, ...] = ()
    lost_streams: tuple[str, ...] = ()
    migration: Migration | None = None
    lease: Lease | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def staying(self) -> tuple[Node, ...]:
        """The nodes that are meant to live."""
        return tuple(node for node in self.nodes if not node.leaving)

    @property
    def is_embedded(self) -> bool:
        """Whether its NATS servers are those that its workload brings."""
        return any(node.is_embedded for node in self.nodes)

    @property
    def price(self) -> Price:
        """What its machines cost together, those on their way out included."""
        return sum((node.price for node in self.nodes), Price())

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def fresh_names(self, count: int) -> tuple[str, ...]:
        """The next *count* names that this forest has never given to a node.

        Raises:
            RefusedError: a node of it bears the last number there is, or nearly.
        """
        last = max(_numbers(self.used_numbers, self.nodes), default=0)
        if last + count > MAX_NUMBER:
            raise RefusedError(
                f"{self.name} has had a node {last}, and {MAX_NUMBER} is the last number there is: "
                "plant a forest of another name, or correct the number in the registry."
            )
        return tuple(f"{self.name}-node-{last + k}" for k in range(1, count + 1))

    def with_nodes(self, *changed: Node) -> "Forest":
        """This forest with *changed* in the place of the nodes of the same names, or after them."""
        by_name = {node.name: node for node in self.nodes} | {node.name: node for node in changed}
        nodes = tuple(by_name.values())
        return replace(self, nodes=nodes, used_numbers=_numbers(self.used_numbers, nodes))

    def without(self, *names: str) -> "Forest":
        rest = tuple(node for node in self.nodes if node.name not in names)
        return replace(self, nodes=rest, used_numbers=_numbers(self.used_numbers, self.nodes))


def _numbers(used: tuple[int, ...], nodes: tuple[Node, ...]) -> tuple[int, ...]:
    """Every k ever given away; other programs may have given some without keeping a list."""
    return tuple(sorted({*used, *(node.number for node in nodes if node.number)}))

"""Everything between the machines: a router that every host and every person is connected to by a line.

A host's line is what the provider's is: ``::1`` of a /64 that is routed to it whole, the gateway ``fe80::1``,
perhaps one IPv4 address with the gateway 172.31.1.1, and 169.254.169.254. Who has no IPv4 address has no IPv4
route but that one. What is addressed to a host whose line is gone is dropped without a word.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.namespaces import Namespace

GATEWAY6, GUEST6, GATEWAY4 = "fe80::1", "fe80::2", "172.31.1.1"
METADATA = "169.254.169.254"


@dataclass(frozen=True)
class Line:
    """How somebody is connected: ``name`` is the router's end, eth0 the other one."""

    name: str
    ipv6: str | None = None
    ipv4: str | None = None
    local: str | None = None

    @property
    def address(self) -> str | None:
        """The first address of the network, which is the only one that is configured."""
        return str(ipaddress.IPv6Network(self.ipv6)[1]) if self.ipv6 else None


class Network:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.router = Namespace(f"{prefix}-net")
        self._partitions: set[tuple[str, str]] = set()

    def open(self) -> None:
        self.router.create()
        with self.router.entered():
            for switch in ("ipv6/conf/all/forwarding", "ipv4/ip_forward"):
                Path("/proc/sys/net", switch).write_text("1", encoding="ascii")
        self.router.ip(f"addr add {METADATA}/32 dev lo")

    def person(self, name: str, number: int, *, ipv6: bool = True) -> Namespace:
        """Somebody with a network of his own, dual stack or with IPv4 alone."""
        space = Namespace(f"{self.prefix}-{name}")
        space.create()
        network = f"2001:db8:0:{number}::/64" if ipv6 else None
        self.connect(Line(name, network, f"203.0.113.{number}"), space)
        return space

    def connect(self, line: Line, space: Namespace) -> None:
        """Connect a new namespace to the router."""
        self.router.ip(
            f"link add {line.name} type veth peer name eth0 netns {space.name}",
            f"link set {line.name} up",
            *_router_end(line),
        )
        space.ip("link set eth0 up", *_other_end(line))
        self.router.ip(*_routes(line))

    def disconnect(self, line: Line) -> None:
        """Take a line away at once, whatever is on its way."""
        self.router.run(["ip", "link", "delete", line.name])

    def reserve(self, line: Line) -> None:
        """Let packets for somebody without a line vanish, as they do for a machine that is off."""
        self.router.ip(*(f"route add blackhole {each} metric 9999" for each in _destinations(line)))

    def release(self, line: Line) -> None:
        self.router.ip(*(f"route del blackhole {each} metric 9999" for each in _destinations(line)))


def _destinations(line: Line) -> Iterable[str]:
    return [each for each in (line.ipv6, line.ipv4) if each]


def _router_end(line: Line) -> Iterable[str]:
    yield f"addr add {GATEWAY6}/64 dev {line.name} nodad"
    if line.ipv4:
        yield f"addr add {GATEWAY4}/32 dev {line.name}"


def _routes(line: Line) -> Iterable[str]:
    if line.ipv6:
        yield f"route add {line.ipv6} via {GUEST6} dev {line.name}"
    if line.ipv4:
        yield f"route add {line.ipv4} dev {line.name}"
    if line.local:
        yield f"route add {line.local} dev {line.name}"


def _other_end(line: Line) -> Iterable[str]:
    yield f"addr add {GUEST6}/64 dev eth0 nodad"
    if line.ipv6:
        yield f"addr add {line.address}/64 dev eth0 nodad"
        yield f"route add default via {GATEWAY6} dev eth0 src {line.address}"
    if line.ipv4:
        yield f"addr add {line.ipv4}/32 dev eth0"
        yield f"route add {GATEWAY4} dev eth0 scope link src {line.ipv4}"
        yield f"route add default via {GATEWAY4} dev eth0 src {line.ipv4}"
    if line.local:
        yield f"addr add {line.local}/32 dev eth0 scope link"
        yield f"route add {METADATA} dev eth0 scope link src {line.local}"

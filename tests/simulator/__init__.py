"""Hetzner's Cloud and Storage Box APIs on loopback, with their traps, for the real client.

simulator = Simulator(latency=Latency(scale=0))
simulator.faults.unavailable("cx23", "fsn1", times=2)
with simulator.running() as url:
    client = hcloud.Client(
        simulator.token, api_endpoint=f"{url}/v1", api_endpoint_hetzner=f"{url}/v1"
    )
    ...
assert simulator.billable() == []
assert simulator.violations == []
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from tests.simulator import machines
from tests.simulator.app import App, Tokens
from tests.simulator.faults import Faults
from tests.simulator.hosts import Hosts
from tests.simulator.server import serving
from tests.simulator.state import (
    FirewallState,
    Named,
    NetworkState,
    PlacementGroupState,
    PrimaryIPState,
    ServerState,
    SSHKeyState,
    StorageBoxState,
    ZoneState,
)
from tests.simulator.world import Latency, Limits, World

Thing = TypeVar("Thing", bound=Named)


class Simulator:
    """One project with its tokens; tests script its faults and look at what it holds.

    Everything of it may be used from any thread, while requests come in. What is due is done before a look.
    """

    def __init__(
        self,
        *,
        latency: Latency = Latency(),  # noqa: B008  # frozen
        limits: Limits = Limits(),  # noqa: B008  # frozen
        validate: bool = True,
        seed: int = 0,
        boxes_at: str | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        """*boxes_at* is the host, with its port, that boxes and subaccounts give as their server.

        *hosts* makes machines of the servers, as ``tests.lab`` does; without it they are records.
        """
        self.faults = Faults()
        self.world = World(latency, limits, self.faults, seed, boxes_at=boxes_at, hosts=hosts)
        tokens = (f"{self.world.dice.getrandbits(256):064x}" for _ in range(2))
        self.token, self.read_only_token = tokens
        self.app = App(self.world, Tokens(self.token, self.read_only_token), validate)
        self.url = ""

    @contextlib.contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        """Serve while the block runs; yields the address without ``/v1``, which is ``url`` meanwhile."""
        with machines.alive(self.world), serving(self.app, port) as self.url:
            yield self.url
        self.url = ""

    # Time

    @property
    def clock(self) -> Callable[[], datetime]:
        """The time of the project; may be replaced by any callable that returns a time in UTC."""
        return self.world.now

    @clock.setter
    def clock(self, clock: Callable[[], datetime]) -> None:
        self.world.source = clock

    def advance(self, seconds: float) -> None:
        """Let time pass: actions end, hours are billed, the bucket fills."""
        with self.world.lock:
            self.world.advanced += timedelta(seconds=seconds)
            self.world.settle()

    # What was asked

    @property
    def requests(self) -> Counter[str]:
        """Requests by operation, ``GET /servers/{id}``, answered or not."""
        return self.app.requests

    @property
    def log(self) -> list[tuple[float, float, str, int]]:
        """Arrival and reply by time.monotonic(), operation, status; 0 for a reply that was not sent."""
        return self.app.log

    @property
    def violations(self) -> list[str]:
        """What the schema did not allow, in requests and in our own responses."""
        return self.app.violations

    # Money

    def billable(self) -> list[str]:
        """What still costs money, as ``server oak-node-1``."""
        with self.world.lock:
            self.world.settle()
            return self.world.billable()

    def cost(self, at: datetime | None = None) -> Decimal:
        """EUR net, by started hours, until *at* or now."""
        with self.world.lock:
            self.world.settle()
            return self.world.cost(at or self.world.now())

    def change_prices(self, factor: Decimal) -> None:
        """Multiply the prices of new orders; what runs keeps its own."""
        with self.world.lock:
            self.world.price_factor *= factor

    def deprecate(self, name: str, *, days: float) -> None:
        """Announce that a server type, image or box type can be ordered for *days* more."""
        with self.world.lock:
            now = self.world.now()
            self.world.deprecated[name] = now, now + timedelta(days=days)

    # What is there, by name

    @property
    def servers(self) -> dict[str, ServerState]:
        return self._by_name(self.world.servers)

    @property
    def firewalls(self) -> dict[str, FirewallState]:
        return self._by_name(self.world.firewalls)

    @property
    def ssh_keys(self) -> dict[str, SSHKeyState]:
        return self._by_name(self.world.ssh_keys)

    @property
    def placement_groups(self) -> dict[str, PlacementGroupState]:
        return self._by_name(self.world.placement_groups)

    @property
    def networks(self) -> dict[str, NetworkState]:
        return self._by_name(self.world.networks)

    @property
    def primary_ips(self) -> dict[str, PrimaryIPState]:
        return self._by_name(self.world.primary_ips)

    @property
    def storage_boxes(self) -> dict[str, StorageBoxState]:
        return self._by_name(self.world.storage_boxes)

    @property
    def zones(self) -> dict[str, ZoneState]:
        return self._by_name(self.world.zones)

    def _by_name(self, things: Mapping[int, Thing]) -> dict[str, Thing]:
        with self.world.lock:
            self.world.settle()
            return {each.name: each for each in things.values()}


__all__ = ["Faults", "Latency", "Limits", "Simulator"]

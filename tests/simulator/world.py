"""The state of the simulated project: resources, actions under way, time and money.

Nothing happens on its own: what has come due since the last look happens when somebody looks again, in its
order and as of its own time. Whoever looks holds ``lock``.
"""

import heapq
import itertools
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.simulator import catalogue
from tests.simulator.faults import Faults
from tests.simulator.hosts import Hosts
from tests.simulator.state import (
    ActionState,
    Bill,
    FirewallState,
    NetworkState,
    PlacementGroupState,
    PrimaryIPState,
    ServerState,
    SSHKeyState,
    StorageBoxState,
    ZoneState,
)

HOUR = timedelta(hours=1)
UNLOCKED = {"set_firewall_rules", "apply_firewall", "remove_firewall"}  # these leave a server unlocked


@dataclass(frozen=True)
class Latency:
    """Seconds each kind of action takes; ``scale`` multiplies all; with 0 all is done at the next look."""

    create: float = 3.0
    start: float = 2.0
    firewall: float = 0.2
    delete: float = 1.0
    box: float = 20.0
    scale: float = 1.0


@dataclass(frozen=True)
class Limits:
    """What the project may have at once; its bucket of requests gains ``refill`` per second."""

    servers: int = 100
    primary_ips: int = 100
    requests_per_hour: int = 3600
    refill: float = 1.0


def steady_clock() -> Callable[[], datetime]:
    """Return a clock that starts at the time of day and never jumps."""
    begin, started = datetime.now(UTC), time.monotonic()
    return lambda: begin + timedelta(seconds=time.monotonic() - started)


class World:
    def __init__(
        self,
        latency: Latency,
        limits: Limits,
        faults: Faults,
        seed: int,
        *,
        boxes_at: str | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self.boxes_at, self.hosts = boxes_at, hosts
        self.lock = threading.RLock()
        self.latency, self.limits, self.faults = latency, limits, faults
        self.dice = random.Random(seed)
        self.source = steady_clock()
        self.advanced = timedelta()
        self.price_factor = Decimal(1)
        self.deprecated = dict(catalogue.DEPRECATED)
        self.servers: dict[int, ServerState] = {}
        self.firewalls: dict[int, FirewallState] = {}
        self.ssh_keys: dict[int, SSHKeyState] = {}
        self.placement_groups: dict[int, PlacementGroupState] = {}
        self.networks: dict[int, NetworkState] = {}
        self.primary_ips: dict[int, PrimaryIPState] = {}
        self.storage_boxes: dict[int, StorageBoxState] = {}
        self.zones: dict[int, ZoneState] = {}
        self.actions: dict[int, ActionState] = {}
        self.bills: list[Bill] = []
        self._running: dict[int, ActionState] = {}
        self._ids = itertools.count(4711 + self.dice.randrange(1000))
        self._action_ids = itertools.count(10**6)
        self._order = itertools.count()
        self._agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self._moment: datetime | None = None
        self._tokens, self._filled = float(limits.requests_per_hour), self.now()

    # Time

    def now(self) -> datetime:
        return self._moment or self.source() + self.advanced

    def settle(self) -> None:
        """Let happen what has come due."""
        now = self.now()
        while self._agenda and self._agenda[0][0] <= now:
            self._moment, _, effect = heapq.heappop(self._agenda)
            try:
                effect()
            finally:
                self._moment = None

    def at(self, when: datetime, effect: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), effect))

    def later(self, seconds: float, effect: Callable[[], None]) -> None:
        """Let *effect* happen in *seconds*, scaled like all latencies."""
        self.at(self.now() + timedelta(seconds=seconds * self.latency.scale), effect)

    def new_id(self) -> int:
        return next(self._ids)

    def box_host(self, user: str) -> str:
        """Where the files of a box or subaccount are to be had; without any, a name that nobody has."""
        return self.boxes_at or f"{user}.storagebox.invalid"

    # Actions

    def act(
        self,
        command: str,
        seconds: float,
        *resources: tuple[str, int],
        effect: Callable[[], None] = lambda: None,
        after: ActionState | None = None,
        failed: Callable[[], None] = lambda: None,
    ) -> ActionState:
        """Begin an action that lasts *seconds*, scaled, beginning when *after* has ended.

        It has its *effect* when it succeeds; faults may let it fail or get stuck.
        """
        begins = after.ends if after else self.now()
        servers = [self.servers[number].name for kind, number in resources if kind == "server"]
        server = servers[0] if servers else ""
        lasts = seconds * self.latency.scale + self.faults.stuck(command, server)
        action = ActionState(
            id=next(self._action_ids),
            command=command,
            started=self.now(),
            ends=begins + timedelta(seconds=lasts),
            resources=list(resources),
            effect=effect,
            after=after,
            error=self.faults.failure(command, server),
        )
        self.actions[action.id] = self._running[action.id] = action
        self.at(action.ends, lambda: self._finish(action, failed))
        return action

    def _finish(self, action: ActionState, failed: Callable[[], None]) -> None:
        del self._running[action.id]
        if action.after and action.after.status == "error":
            action.error = action.error or ("action_failed", "the action before it failed")
        if action.error:
            action.status = "error"
            failed()
        else:
            action.status = "success"
            action.effect()

    def busy(self, kind: str, resource: int) -> bool:
        """Whether an action that locks it is under way on a resource."""
        return any(
            (kind, resource) in action.resources and action.command not in UNLOCKED
            for action in self._running.values()
        )

    # Money

    def bill(self, kind: str, thing: int, name: str, price: Decimal) -> None:
        """Begin to charge *price*, of the catalogue, for something; what it was charged before ends."""
        self.close_bill(kind, thing)
        if price:
            self.bills.append(Bill(kind, thing, name, price * self.price_factor, self.now()))

    def close_bill(self, kind: str, thing: int) -> None:
        for bill in self.bills:
            if (bill.kind, bill.id) == (kind, thing) and bill.until is None:
                bill.until = self.now()

    def rename_bill(self, kind: str, thing: int, name: str) -> None:
        for bill in self.bills:
            if (bill.kind, bill.id) == (kind, thing):
                bill.name = name

    def billable(self) -> list[str]:
        return [f"{bill.kind} {bill.name}" for bill in self.bills if bill.until is None]

    def cost(self, at: datetime) -> Decimal:
        """EUR net until *at*: every bill counts each hour it has begun."""
        total = Decimal(0)
        for bill in self.bills:
            if bill.since <= at:
                lasted = min(at, bill.until or at) - bill.since
                total += bill.price * max(1, math.ceil(lasted / HOUR))
        return total

    # Requests

    def take_token(self) -> bool:
        """Take one request out of the bucket; False when it is empty."""
        now = self.now()
        passed = max(0.0, (now - self._filled).total_seconds())  # a clock set back fills nothing
        full = float(self.limits.requests_per_hour)
        self._tokens = min(full, self._tokens + passed * self.limits.refill)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def rate_headers(self) -> dict[str, str]:
        full, rate = self.limits.requests_per_hour, self.limits.refill
        until_full = (full - self._tokens) / rate if rate else 0
        return {
            "RateLimit-Limit": str(full),
            "RateLimit-Remaining": str(int(self._tokens)),
            "RateLimit-Reset": str(math.ceil(self._filled.timestamp() + until_full)),
        }

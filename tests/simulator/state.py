"""What the simulated project holds. Routes change these records; tests look at them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

Json = dict[str, Any]


@dataclass(kw_only=True)
class Named:
    """What all resources have."""

    id: int
    name: str
    created: datetime
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class ServerState(Named):
    """``ipv6`` is the network as text; ``firewalls`` maps ids to ``pending`` or ``applied``."""

    server_type: str
    location: str
    image: int
    user_data: str
    ssh_keys: list[int]
    root_password: str | None
    hypervisor: int
    status: str = "initializing"
    ipv4: str | None = None
    ipv6: str | None = None
    primary_ips: dict[str, int] = field(default_factory=dict)
    firewalls: dict[int, str] = field(default_factory=dict)
    placement_group: int | None = None
    private_net: list[Json] = field(default_factory=list)
    protection: dict[str, bool] = field(default_factory=lambda: {"delete": False, "rebuild": False})
    started: datetime | None = None
    reverse: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class FirewallState(Named):
    """``servers`` are those it was applied to by id, ``selectors`` those it chooses by label."""

    rules: list[Json] = field(default_factory=list)
    servers: list[int] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class SSHKeyState(Named):
    public_key: str
    fingerprint: str


@dataclass(kw_only=True)
class PlacementGroupState(Named):
    servers: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class NetworkState(Named):
    ip_range: str
    subnets: list[Json] = field(default_factory=list)
    routes: list[Json] = field(default_factory=list)
    servers: list[int] = field(default_factory=list)
    protection: dict[str, bool] = field(default_factory=lambda: {"delete": False})
    expose_routes_to_vswitch: bool = False


@dataclass(kw_only=True)
class PrimaryIPState(Named):
    type: str
    ip: str
    location: str
    auto_delete: bool
    server: int | None = None
    protection: dict[str, bool] = field(default_factory=lambda: {"delete": False})
    reverse: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class SubaccountState(Named):
    box: int
    number: int
    password: str
    home_directory: str
    description: str
    access_settings: dict[str, bool]


@dataclass(kw_only=True)
class SnapshotState(Named):
    box: int
    description: str


@dataclass(kw_only=True)
class StorageBoxState(Named):
    """``username`` and ``server`` are None while ``status`` is ``initializing``."""

    box_type: str
    location: str
    password: str
    access_settings: dict[str, bool]
    ssh_keys: list[str]
    status: str = "initializing"
    username: str | None = None
    server: str | None = None
    snapshot_plan: Json | None = None
    protection: dict[str, bool] = field(default_factory=lambda: {"delete": False})
    subaccounts: dict[int, SubaccountState] = field(default_factory=dict)
    snapshots: dict[int, SnapshotState] = field(default_factory=dict)


@dataclass(kw_only=True)
class RecordSetState:
    name: str
    type: str
    ttl: int | None
    records: list[Json]
    created: datetime
    labels: dict[str, str] = field(default_factory=dict)
    protection: dict[str, bool] = field(default_factory=lambda: {"change": False})

    @property
    def id(self) -> str:
        return f"{self.name}/{self.type}"


@dataclass(kw_only=True)
class ZoneState(Named):
    mode: str
    ttl: int
    primary_nameservers: list[Json] = field(default_factory=list)
    rrsets: dict[str, RecordSetState] = field(default_factory=dict)
    protection: dict[str, bool] = field(default_factory=lambda: {"delete": False})


@dataclass(kw_only=True)
class ActionState:
    """``effect`` happens when it succeeds; ``error`` is known from the start and shown at the end."""

    id: int
    command: str
    started: datetime
    ends: datetime
    resources: list[tuple[str, int]]
    effect: Callable[[], None]
    after: "ActionState | None" = None
    error: tuple[str, str] | None = None
    status: str = "running"

    @property
    def finished(self) -> datetime:
        """What lists are sorted by; of one that runs, when it will be."""
        return self.ends


@dataclass
class Bill:
    """What something costs per started hour, from its order to its end."""

    kind: str
    id: int
    name: str
    price: Decimal
    since: datetime
    until: datetime | None = None

"""What can be ordered: locations, server types, images, boxes.

Sizes are the real ones. Prices are fixtures of the tests, in EUR net per hour, and nobody's offer.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

HOURS_PER_MONTH = 624
VAT = Decimal(19)
LONG_AGO = datetime(2025, 10, 16, tzinfo=UTC)
GONE = datetime(2025, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Location:
    id: int
    name: str
    city: str
    country: str
    zone: str


@dataclass(frozen=True)
class ServerType:
    """``memory`` and ``disk`` in GB, ``price`` per hour."""

    id: int
    name: str
    cores: int
    memory: int
    disk: int
    price: Decimal
    locations: tuple[str, ...]
    architecture: str = "x86"
    dedicated: bool = False


@dataclass(frozen=True)
class Image:
    id: int
    name: str
    architecture: str

    @property
    def flavor(self) -> str:
        return self.name.split("-")[0]


@dataclass(frozen=True)
class BoxType:
    """``size`` in bytes, ``price`` per hour."""

    id: int
    name: str
    size: int
    price: Decimal
    subaccounts: int


EUROPE = ("fsn1", "nbg1", "hel1")

LOCATIONS = {
    each.name: each
    for each in (
        Location(1, "fsn1", "Falkenstein", "DE", "eu-central"),
        Location(2, "nbg1", "Nuremberg", "DE", "eu-central"),
        Location(3, "hel1", "Helsinki", "FI", "eu-central"),
        Location(4, "ash", "Ashburn, VA", "US", "us-east"),
        Location(5, "hil", "Hillsboro, OR", "US", "us-west"),
        Location(6, "sin", "Singapore", "SG", "ap-southeast"),
    )
}

SERVER_TYPES = {
    each.name: each
    for each in (
        ServerType(22, "cx22", 2, 4, 40, Decimal("0.0061"), EUROPE),
        ServerType(114, "cx23", 2, 4, 40, Decimal("0.0056"), EUROPE),
        ServerType(115, "cx33", 4, 8, 80, Decimal("0.0096"), EUROPE),
        ServerType(116, "cx43", 8, 16, 160, Decimal("0.0176"), EUROPE),
        ServerType(109, "cpx22", 2, 4, 80, Decimal("0.0112"), (*EUROPE, "sin")),
        ServerType(110, "cpx32", 4, 8, 160, Decimal("0.0192"), (*EUROPE, "sin")),
        ServerType(45, "cax11", 2, 4, 40, Decimal("0.0064"), EUROPE, "arm"),
        ServerType(93, "cax21", 4, 8, 80, Decimal("0.0112"), EUROPE, "arm"),
        ServerType(96, "ccx13", 2, 8, 80, Decimal("0.0232"), tuple(LOCATIONS), dedicated=True),
    )
}

DEPRECATED = {"cx22": (LONG_AGO, GONE)}  # name: announced, unavailable after

IMAGES = {
    each.id: each
    for each in (
        Image(114690387, "debian-12", "x86"),
        Image(114690389, "debian-12", "arm"),
        Image(161547269, "ubuntu-24.04", "x86"),
        Image(161547270, "ubuntu-24.04", "arm"),
        Image(310557660, "debian-13", "x86"),
        Image(310557661, "debian-13", "arm"),
    )
}

BOX_TYPES = {
    each.name: each
    for each in (
        BoxType(1333, "bx11", 2**40, Decimal("0.0051"), 100),
        BoxType(1334, "bx21", 5 * 2**40, Decimal("0.0176"), 100),
    )
}

PRIMARY_IP = {"ipv4": Decimal("0.0008"), "ipv6": Decimal(0)}  # per hour


def architecture_of(server_type: str) -> str:
    return SERVER_TYPES[server_type].architecture

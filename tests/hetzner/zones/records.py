"""What a simulated zone holds, and what somebody else puts there."""

from collections.abc import Callable

from hcloud.zones import BoundZone, ZoneRecord

from morpheus.cloud.hetzner import HetznerCloud
from tests.simulator import Simulator

Make = Callable[..., HetznerCloud]


def names(simulator: Simulator, zone: str = "example.com") -> dict[str, list[str]]:
    """The values of every set but the zone's own, by name and type."""
    sets = simulator.zones[zone].rrsets.values()
    return {each.id: [record["value"] for record in each.records] for each in sets if each.type != "NS"}


def writes(simulator: Simulator) -> int:
    """How often anything in a zone was changed."""
    return sum(
        n for what, n in simulator.requests.items() if "/rrsets" in what and not what.startswith("GET")
    )


def foreign(zone: BoundZone, name: str, **labels: str) -> None:
    record = ZoneRecord(value="2001:db8::bad")
    zone.create_rrset(name=name, type="AAAA", records=[record], labels=labels or None)

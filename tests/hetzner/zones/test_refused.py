"""Zones and domains that cannot be, and names while anything may go wrong."""

import contextlib
from collections.abc import Callable

import hcloud
import pytest
from hcloud.zones import BoundZone, ZonePrimaryNameserver

from morpheus.cloud import Server
from morpheus.errors import InvalidInputError, TransientError
from morpheus.settings import DnsSettings
from tests.hetzner.project import OURS, ensure
from tests.hetzner.zones.records import Make, names
from tests.simulator import Simulator

# Before


@pytest.mark.parametrize("domain", ["other.org", "example.org", "ample.com", "com.example", "com", "a..com"])
def test_a_domain_without_a_zone_is_told_before_anything_is_made(
    make: Make, simulator: Simulator, zone: BoundZone, domain: str
) -> None:
    with pytest.raises(InvalidInputError, match=rf"no zone in this project holds {domain}: add that zone"):
        make(domain).check(creates=False)

    assert [what for what in simulator.requests if not what.startswith("GET")] == ["POST /zones"]


def test_a_zone_that_cannot_be_changed_is_told(make: Make, client: hcloud.Client) -> None:
    nameservers = [ZonePrimaryNameserver(address="192.0.2.1")]
    client.zones.create(name="example.com", mode="secondary", primary_nameservers=nameservers)

    with pytest.raises(InvalidInputError, match=r"example\.com is a secondary one"):
        make("trees.example.com").check(creates=False)


def test_a_zone_that_goes_in_between_is_told(make: Make, zone: BoundZone) -> None:
    cloud = make()
    cloud.check(creates=False)
    made = ensure(cloud, 1)
    zone.delete()

    with pytest.raises(TransientError, match="removed names"):
        cloud.admit(OURS, "oak", made)
    with pytest.raises(InvalidInputError, match="no zone"):
        cloud.admit(OURS, "oak", made)


def test_without_a_domain_zones_are_looked_at_when_a_node_goes_alone(
    make: Make, simulator: Simulator
) -> None:
    cloud = make(None)
    cloud.check(creates=False)
    assert simulator.requests.total() == 0

    made = ensure(cloud, 1)
    assert cloud.admit(OURS, "oak", made) == made
    assert not [what for what in simulator.requests if "/zones" in what]

    cloud.delete_server(OURS, "oak-node-1")
    assert {what: n for what, n in simulator.requests.items() if "/zones" in what} == {"GET /zones": 1}


def test_a_domain_may_be_written_in_many_ways() -> None:
    assert DnsSettings(provider="hetzner", domain="Trees.Example.COM.").domain == "trees.example.com"
    with pytest.raises(ValueError, match="needs a domain"):
        DnsSettings(provider="hetzner")


def test_what_is_no_address_gets_no_name(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    (made,) = ensure(cloud := make(), 1)

    cloud.admit(OURS, "oak", [Server(made.name, made.ip, {}, {"ipv4": "anything"})])

    assert names(simulator) == {"oak-node-1/AAAA": [made.ip]}


# Whatever goes wrong


def repeated(act: Callable[[], object]) -> None:
    """As a task does, more often."""
    for _ in range(30):
        with contextlib.suppress(TransientError):
            act()
            return
    act()


@pytest.mark.parametrize("seed", range(6))
def test_names_are_all_there_or_none_is(make: Make, simulator: Simulator, zone: BoundZone, seed: int) -> None:
    cloud = make(ipv4=True)
    cloud._zones._api.client._client._retry_interval_func = lambda _: 0.01
    made = ensure(cloud, 3)

    simulator.faults.random(seed, 0.25)
    repeated(lambda: cloud.admit(OURS, "oak", made))
    wanted = {f"{each.name}/AAAA": [each.ip] for each in made}
    assert names(simulator) == wanted | {f"{each.name}/A": [each.metadata["ipv4"]] for each in made}

    for each in made:
        repeated(lambda name=each.name: cloud.delete_server(OURS, name))  # type: ignore[misc]
    repeated(lambda: cloud.clear(OURS, "oak"))
    assert names(simulator) == {}
    assert simulator.billable() == []

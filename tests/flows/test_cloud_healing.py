"""Healing on the simulated cloud, and what is left when that fails."""

from collections.abc import Callable, Mapping
from uuid import UUID, uuid4

import hcloud
import pytest
from hcloud.zones import BoundZone, ZoneRecord
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running

from flows._undo import sweep
from flows.plant import plant
from flows.teardown import teardown
from morpheus.errors import CloudError, InvalidInputError, RefusedError
from morpheus.forest import Forest, Status
from tests.flows.homes import Home, client, nothing_is_left
from tests.simulator import Simulator

pytestmark = pytest.mark.long


def lose(simulator: Simulator, *names: str) -> None:
    for name in names:
        server = client(simulator).servers.get_by_name(name)
        assert server
        server.delete()


def recorded(forest: Forest) -> Mapping[str, str | None]:
    return {node.name: node.ip for node in forest.nodes}


def addresses(simulator: Simulator) -> dict[str, str]:
    return {name: str(each.ipv6).replace("/64", "1") for name, each in simulator.servers.items()}


def admitted(simulator: Simulator) -> list[str]:
    (firewall,) = simulator.firewalls.values()
    return sorted(
        source.removesuffix("/128")
        for rule in firewall.rules
        if rule.get("port") == "6222"
        for source in rule["source_ips"]
    )


def names(simulator: Simulator) -> dict[str, str]:
    (zone,) = simulator.zones.values()
    sets = (each for each in zone.rrsets.values() if each.type == "AAAA")
    return {each.name: each.records[0]["value"] for each in sets}


def zone_of(there: hcloud.Client) -> BoundZone:
    return there.zones.create(name="example.com", mode="primary").zone


DNS = {"provider": "hetzner", "domain": "example.com"}


def test_a_replacement_that_finds_no_room_leaves_the_survivors_alone(
    home: Home, simulator: Simulator
) -> None:
    """One of two finds a place: it is of no use, costs money, and holds nothing."""
    plant("oak", nodes=5)
    lose(simulator, "oak-node-4", "oak-node-5")
    simulator.faults.unavailable(times=1)

    with pytest.raises(CloudError, match="found no place"):
        plant("oak")

    survivors = ["oak-node-1", "oak-node-2", "oak-node-3"]
    assert sorted(simulator.servers) == survivors
    assert sorted(simulator.billable()) == [f"server {name}" for name in survivors]
    forest = home.forests["oak"]
    assert recorded(forest) == addresses(simulator) | {"oak-node-6": None, "oak-node-7": None}
    assert admitted(simulator) == sorted(addresses(simulator).values())

    plant("oak")

    forest = home.forests["oak"]
    assert (forest.status, recorded(forest)) == (Status.ACTIVE, addresses(simulator))
    assert sorted(simulator.servers) == [*survivors, "oak-node-6", "oak-node-7"]
    assert admitted(simulator) == sorted(addresses(simulator).values())


def test_what_a_killed_second_try_made_is_taken_back_from_outside(home: Home, simulator: Simulator) -> None:
    """The names are those that the first try reserved; only the servers tell of the second."""
    plant("oak", nodes=5)
    lose(simulator, "oak-node-4", "oak-node-5")
    for keep in (False, True):  # with keep nobody takes anything back, as when the process dies
        simulator.faults.unavailable(times=1)
        with pytest.raises(CloudError, match="found no place"):
            plant("oak", keep=keep)
    survivors = ["oak-node-1", "oak-node-2", "oak-node-3"]
    (made,) = (each for name, each in simulator.servers.items() if name not in survivors)

    killed = FlowRun(id=UUID(made.labels["run-id"]), flow_id=uuid4(), parameters={"name": "oak"})
    sweep(plant, killed, Running())

    assert sorted(simulator.servers) == survivors
    assert home.forests["oak"].lease is None
    plant("oak")
    assert recorded(home.forests["oak"]) == addresses(simulator)


def test_a_replacement_whose_name_is_taken_leaves_the_survivors_alone(
    house: Callable[[str], Home], simulator: Simulator
) -> None:
    """It was let in, and found, before it was known that the other could not be."""
    home, zone = house("home").settle(dns=DNS), zone_of(client(simulator))
    plant("oak", nodes=5)
    lose(simulator, "oak-node-4", "oak-node-5")
    theirs = zone.create_rrset(name="oak-node-7", type="AAAA", records=[ZoneRecord(value="2001:db8::bad")])

    with pytest.raises(RefusedError, match=r"oak-node-7\.example\.com has AAAA records that are not"):
        plant("oak")

    there = addresses(simulator)
    assert sorted(there) == ["oak-node-1", "oak-node-2", "oak-node-3"]
    assert recorded(home.forests["oak"]) == there | {"oak-node-6": None, "oak-node-7": None}
    assert admitted(simulator) == sorted(there.values())  # the lost ones' addresses are others' by now
    assert names(simulator) == there | {"oak-node-7": "2001:db8::bad"}

    theirs.rrset.delete_rrset()
    plant("oak")
    assert names(simulator) == addresses(simulator) == recorded(home.forests["oak"])


# Names


def test_names_come_and_go_with_a_forest(house: Callable[[str], Home], simulator: Simulator) -> None:
    home, zone = house("home").settle(dns=DNS), zone_of(client(simulator))
    zone.create_rrset(name="www", type="AAAA", records=[ZoneRecord(value="2001:db8::80")])
    plant("oak", nodes=3)
    www = {"www": "2001:db8::80"}
    assert names(simulator) == addresses(simulator) | www
    found = {node.name: node.dns for node in home.forests["oak"].nodes}
    assert found == {name: f"{name}.example.com" for name in addresses(simulator)}

    lose(simulator, "oak-node-2")
    plant("oak")
    assert names(simulator) == addresses(simulator) | www
    assert "oak-node-4" in names(simulator)

    teardown("oak")
    assert names(simulator) == www
    nothing_is_left(simulator)


def test_a_plant_that_fails_leaves_no_name(house: Callable[[str], Home], simulator: Simulator) -> None:
    home, zone = house("home").settle(dns=DNS), zone_of(client(simulator))
    zone.create_rrset(name="oak-node-3", type="AAAA", records=[ZoneRecord(value="2001:db8::bad")])

    with pytest.raises(RefusedError, match="choose another name"):
        plant("oak", nodes=3)

    assert names(simulator) == {"oak-node-3": "2001:db8::bad"}
    nothing_is_left(simulator)
    assert home.forests == {}


def test_without_the_zone_nothing_is_begun(house: Callable[[str], Home], simulator: Simulator) -> None:
    home = house("home").settle(dns=DNS)

    with pytest.raises(InvalidInputError, match=r"no zone in this project holds example\.com"):
        plant("oak", nodes=3)

    assert not [what for what in simulator.requests if not what.startswith("GET")]
    assert home.forests == {}


def test_a_forest_gets_names_when_it_is_planted_again(
    house: Callable[[str], Home], simulator: Simulator
) -> None:
    home = house("home").settle()
    plant("oak", nodes=3)
    assert {node.dns for node in home.forests["oak"].nodes} == {None}
    zone_of(client(simulator))

    home.settle(dns=DNS)
    plant("oak")

    assert names(simulator) == addresses(simulator)
    assert home.forests["oak"].node("oak-node-2").dns == "oak-node-2.example.com"


@pytest.mark.parametrize(("dns", "most"), [({}, 25), (DNS, 32)])
def test_five_nodes_need_few_requests_beside_polls(
    house: Callable[[str], Home], simulator: Simulator, dns: dict[str, str], most: int
) -> None:
    house("home").settle(dns=dns)
    zone_of(client(simulator))
    before = simulator.requests.total()

    plant("oak", nodes=5)

    assert simulator.requests.total() - before <= most

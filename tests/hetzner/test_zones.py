"""The names of nodes in DNS, in a simulated project."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hcloud
import pytest
from hcloud.zones import BoundZone, ZonePrimaryNameserver, ZoneRecord

from morpheus.cloud import Server
from morpheus.cloud.hetzner import HetznerCloud, actions, api
from morpheus.errors import CloudError, InvalidInputError, RefusedError, TransientError
from morpheus.settings import DnsSettings, FirewallSettings, Ipv4Settings
from tests.hetzner.project import OURS, THEIRS, ensure, machine_settings
from tests.simulator import Simulator

Make = Callable[..., HetznerCloud]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK", "TICK"):
        monkeypatch.setattr(actions, name, 0.01)


@pytest.fixture
def client(simulator: Simulator) -> hcloud.Client:
    """The Cloud Console, or somebody else in the project."""
    return hcloud.Client(simulator.token, api_endpoint=f"{simulator.url}/v1")


@pytest.fixture
def zone(client: hcloud.Client) -> BoundZone:
    return client.zones.create(name="example.com", mode="primary").zone


@pytest.fixture
def make(simulator: Simulator, tmp_path: Path) -> Make:
    def made(domain: str | None = "example.com", *, ttl: int = 300, ipv4: bool = False) -> HetznerCloud:
        machine = machine_settings(simulator, tmp_path)
        machine = machine.model_copy(update={"ipv4": Ipv4Settings(enabled=ipv4)})
        dns = DnsSettings(provider="hetzner", domain=domain, ttl=ttl) if domain else DnsSettings()
        return HetznerCloud(machine, FirewallSettings(), dns)

    return made


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


# Coming


def test_every_node_is_found_under_its_name(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make()
    made = ensure(cloud, 3)

    admitted = cloud.admit(OURS, "oak", made)

    assert names(simulator) == {f"{each.name}/AAAA": [each.ip] for each in made}
    assert [each.metadata["dns"] for each in admitted] == [f"{each.name}.example.com" for each in made]
    rrset = simulator.zones["example.com"].rrsets["oak-node-1/AAAA"]
    assert (rrset.ttl, rrset.labels) == (
        300,
        {"managed-by": "morpheus", "registry-id": OURS, "forest-id": "oak", "node-id": "oak-node-1"},
    )


def test_nodes_with_ipv4_have_both_kinds(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make(ipv4=True)
    (made,) = ensure(cloud, 1)

    cloud.admit(OURS, "oak", [made])

    assert names(simulator) == {"oak-node-1/AAAA": [made.ip], "oak-node-1/A": [made.metadata["ipv4"]]}


def test_the_zone_with_the_longest_name_is_the_one(
    make: Make, simulator: Simulator, client: hcloud.Client, zone: BoundZone
) -> None:
    client.zones.create(name="trees.example", mode="primary")
    below, apart = make("deep.trees.example.com"), make("trees.example")
    made = ensure(below, 1)

    assert below.admit(OURS, "oak", made)[0].metadata["dns"] == "oak-node-1.deep.trees.example.com"
    apart.admit(OURS, "oak", made)

    assert list(names(simulator)) == ["oak-node-1.deep.trees/AAAA"]
    assert list(names(simulator, "trees.example")) == ["oak-node-1/AAAA"]


def test_what_is_there_already_is_not_written_again(
    make: Make, simulator: Simulator, zone: BoundZone
) -> None:
    cloud = make()
    made = ensure(cloud, 3)
    cloud.admit(OURS, "oak", made)
    before, asked = writes(simulator), simulator.requests.total()

    make().admit(OURS, "oak", made)

    assert writes(simulator) == before == 3
    assert simulator.requests.total() - asked == 3  # the firewall, the zone, its names


def test_each_change_is_one_write(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make()
    first, second, third = ensure(cloud, 3)
    cloud.admit(OURS, "oak", [first, second, third])
    moved = Server(second.name, "2001:db8::2", {})
    before = writes(simulator)

    cloud.admit(OURS, "oak", [first, moved])  # the second has another address, the third is gone

    assert names(simulator) == {"oak-node-1/AAAA": [first.ip], "oak-node-2/AAAA": ["2001:db8::2"]}
    assert writes(simulator) == before + 2
    make(ttl=600).admit(OURS, "oak", [first])
    assert {each.ttl for each in simulator.zones["example.com"].rrsets.values()} == {600, None}


def test_addresses_are_compared_and_not_their_texts(
    make: Make, simulator: Simulator, zone: BoundZone
) -> None:
    cloud = make()
    (made,) = ensure(cloud, 1)
    cloud.admit(OURS, "oak", [made])
    (record,) = simulator.zones["example.com"].rrsets["oak-node-1/AAAA"].records
    record["value"] = record["value"].upper().replace("::", ":0::")

    cloud.admit(OURS, "oak", [made])

    assert writes(simulator) == 1


@pytest.mark.parametrize("after", ["reset", "timeout"])
def test_a_lost_answer_makes_no_second_set(
    make: Make, simulator: Simulator, zone: BoundZone, monkeypatch: pytest.MonkeyPatch, after: Any
) -> None:
    """After a timeout the client asks again by itself, and is told that the name is taken: by us."""
    monkeypatch.setattr(api, "ANSWER_TIMEOUT", 0.5)
    cloud = make()
    (made,) = ensure(cloud, 1)
    simulator.faults.lose_reply("POST /zones/{id_or_name}/rrsets", after=after)

    if after == "reset":
        with pytest.raises(TransientError):
            cloud.admit(OURS, "oak", [made])
    cloud.admit(OURS, "oak", [made])

    assert names(simulator) == {"oak-node-1/AAAA": [made.ip]}


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"managed-by": "morpheus", "registry-id": THEIRS, "forest-id": "oak", "node-id": "oak-node-1"},
        {"managed-by": "morpheus", "registry-id": OURS, "forest-id": "elm", "node-id": "oak-node-1"},
    ],
)
def test_a_name_that_is_not_ours_is_neither_changed_nor_removed(
    make: Make, simulator: Simulator, zone: BoundZone, labels: dict[str, str]
) -> None:
    cloud = make()
    made = ensure(cloud, 1)
    foreign(zone, "oak-node-1", **labels)

    with pytest.raises(RefusedError, match=r"oak-node-1\.example\.com has AAAA records that are not of this"):
        cloud.admit(OURS, "oak", made)
    cloud.delete_server(OURS, "oak-node-1")
    cloud.clear(OURS, "oak")

    assert names(simulator)["oak-node-1/AAAA"] == ["2001:db8::bad"]


# Going


def test_a_name_goes_with_its_server_alone(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 3))

    cloud.delete_server(OURS, "oak-node-2")

    assert list(names(simulator)) == ["oak-node-1/AAAA", "oak-node-3/AAAA"]
    assert sorted(simulator.servers) == ["oak-node-1", "oak-node-3"]


def test_a_name_whose_server_is_gone_already_goes_as_well(
    make: Make, simulator: Simulator, client: hcloud.Client, zone: BoundZone
) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    (server,) = client.servers.get_all()
    server.delete()

    cloud.delete_server(OURS, "oak-node-1")

    assert names(simulator) == {}


@pytest.mark.parametrize("domain", [None, "elsewhere.org"])
def test_a_name_goes_also_from_a_device_that_gives_none_there(
    make: Make, simulator: Simulator, client: hcloud.Client, zone: BoundZone, domain: str | None
) -> None:
    client.zones.create(name="elsewhere.org", mode="primary")
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 2))

    make(domain).delete_server(OURS, "oak-node-2")

    assert list(names(simulator)) == ["oak-node-1/AAAA"]


def test_nodes_that_go_together_share_looks(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make(None)
    made = ensure(cloud, 8)
    simulator.faults.slow("GET /zones", 0.3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: cloud.delete_server(OURS, each.name), made))

    assert simulator.requests["GET /zones"] < 8
    assert simulator.billable() == []


def test_a_server_that_stays_keeps_its_name(
    make: Make, simulator: Simulator, client: hcloud.Client, zone: BoundZone
) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    (server,) = client.servers.get_all()
    server.change_protection(delete=True, rebuild=True)

    with pytest.raises(CloudError, match="protected"):
        cloud.delete_server(OURS, "oak-node-1")

    assert list(names(simulator)) == ["oak-node-1/AAAA"]


@pytest.mark.parametrize("domain", [None, "elsewhere.org"])
def test_the_last_sweep_finds_names_in_every_zone(
    make: Make, simulator: Simulator, client: hcloud.Client, zone: BoundZone, domain: str | None
) -> None:
    """Also those of nodes that nobody remembers, and from a device whose settings name no domain."""
    client.zones.create(name="elsewhere.org", mode="primary")
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 2))
    cloud.admit(OURS, "elm", ensure(cloud, 1, forest="elm"))
    foreign(zone, "www")
    second = make(domain)
    second.delete_server(OURS, "oak-node-1")
    server = client.servers.get_by_name("oak-node-2")
    assert server
    server.delete()

    second.clear(OURS, "oak")

    assert list(names(simulator)) == ["elm-node-1/AAAA", "www/AAAA"]
    assert not [each for each in simulator.firewalls if each.startswith("oak")]


def test_two_registries_share_a_zone(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    ours, theirs = make(), make()
    ours.admit(OURS, "oak", ensure(ours, 1))
    theirs.admit(THEIRS, "elm", ensure(theirs, 1, forest="elm", registry_id=THEIRS))
    simulator.zones["example.com"].rrsets["elm-node-1/AAAA"].labels["forest-id"] = "oak"

    ours.admit(OURS, "oak", [])
    ours.delete_server(OURS, "oak-node-1")
    ours.clear(OURS, "oak")

    assert list(names(simulator)) == ["elm-node-1/AAAA"]


def test_a_zone_that_is_gone_keeps_nothing_from_going(
    make: Make, simulator: Simulator, zone: BoundZone
) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    zone.delete()

    for each in (cloud, make()):
        each.delete_server(OURS, "oak-node-1")
        each.clear(OURS, "oak")

    assert simulator.billable() == []
    assert not simulator.firewalls


def test_a_protected_name_stays_and_is_told(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    zone.change_rrset_protection(zone.get_rrset("oak-node-1", "AAAA"), change=True)

    with pytest.raises(CloudError, match=r"oak-node-1.*protected.*Cloud Console"):
        cloud.delete_server(OURS, "oak-node-1")

    assert list(simulator.servers) == ["oak-node-1"]


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

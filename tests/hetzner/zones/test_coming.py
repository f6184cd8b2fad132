"""Names of nodes that come: who gets one, and what is written for it."""

from typing import Any

import hcloud
import pytest
from hcloud.zones import BoundZone

from morpheus.cloud import Server
from morpheus.cloud.hetzner import api
from morpheus.errors import RefusedError, TransientError
from tests.hetzner.project import OURS, THEIRS, ensure
from tests.hetzner.zones.records import Make, foreign, names, writes
from tests.simulator import Simulator


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

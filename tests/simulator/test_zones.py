"""DNS, with the real client."""

import hcloud
import pytest
from hcloud import APIException
from hcloud.zones import BoundZone, ZoneRecord

from tests.simulator import Simulator

FIRST, SECOND = ZoneRecord(value="2001:db8::1"), ZoneRecord(value="2001:db8::2")


@pytest.fixture
def zone(client: hcloud.Client) -> BoundZone:
    return client.zones.create(name="example.com", mode="primary").zone


def values(zone: BoundZone, name: str = "oak") -> list[str]:
    records = zone.get_rrset(name, "AAAA").records or []
    return [each.value for each in records]


def test_what_is_there_is_not_created_again(zone: BoundZone) -> None:
    zone.create_rrset(name="oak", type="AAAA", ttl=300, records=[FIRST]).action.wait_until_finished()

    with pytest.raises(APIException) as failed:
        zone.create_rrset(name="oak", type="AAAA", records=[SECOND])

    assert failed.value.code == "uniqueness_error"
    rrset = zone.get_rrset("oak", "AAAA")
    zone.set_rrset_records(rrset, [SECOND]).wait_until_finished()
    assert values(zone) == [SECOND.value]
    assert zone.get_rrset("oak", "AAAA").ttl == 300
    zone.change_rrset_ttl(rrset, 600).wait_until_finished()
    assert zone.get_rrset("oak", "AAAA").ttl == 600


def test_records_are_not_set_where_there_are_none(client: hcloud.Client, zone: BoundZone) -> None:
    path = f"/zones/{zone.name}/rrsets/oak/AAAA/actions/set_records"

    with pytest.raises(APIException) as failed:
        client.request("POST", path, json={"records": [{"value": "2001:db8::1"}]})

    assert failed.value.code == "not_found"


def test_adding_makes_a_set_and_removing_the_last_ends_it(zone: BoundZone) -> None:
    made = zone.create_rrset(name="oak", type="AAAA", records=[FIRST]).rrset
    zone.delete_rrset(made)
    zone.add_rrset_records(made, [FIRST]).wait_until_finished()
    zone.add_rrset_records(made, [SECOND]).wait_until_finished()
    assert values(zone) == [FIRST.value, SECOND.value]
    zone.remove_rrset_records(made, [FIRST]).wait_until_finished()

    zone.remove_rrset_records(made, [SECOND]).wait_until_finished()

    with pytest.raises(APIException) as failed:
        zone.get_rrset("oak", "AAAA")
    assert failed.value.code == "not_found"


def test_deleting_a_set_is_an_action(simulator: Simulator, zone: BoundZone) -> None:
    made = zone.create_rrset(name="oak", type="AAAA", records=[FIRST]).rrset

    zone.delete_rrset(made).action.wait_until_finished()

    assert [status for *_, operation, status in simulator.log if operation.startswith("DELETE")] == [201]
    assert list(simulator.zones["example.com"].rrsets) == ["@/NS"]


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("Oak", "AAAA", "2001:db8::1"),
        ("oak.", "AAAA", "2001:db8::1"),
        ("oak", "A", "2001:db8::1"),
        ("oak", "TXT", "unquoted"),
    ],
)
def test_sets_that_are_none(zone: BoundZone, name: str, kind: str, value: str) -> None:
    with pytest.raises(APIException) as failed:
        zone.create_rrset(name=name, type=kind, records=[ZoneRecord(value=value)])  # type: ignore[arg-type]  # any

    assert failed.value.code == "invalid_input"

"""What can be ordered, what is refused, and what it costs."""

from decimal import Decimal

import hcloud
import pytest
from hcloud import APIException
from hcloud.images import Image
from hcloud.locations import Location

from tests.simulator import Latency, Limits, Simulator
from tests.simulator.clients import Order, client_of, settled


def test_a_type_may_be_unavailable_in_a_location_although_it_says_otherwise(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    simulator.faults.unavailable("cx23", "fsn1", times=1)

    with pytest.raises(APIException) as failed:
        order()

    assert (failed.value.code, failed.value.message) == ("resource_unavailable", "error during placement")
    kind = client.server_types.get_by_name("cx23")
    assert kind
    assert kind.locations
    assert kind.locations[0].available
    settled(order())
    assert simulator.servers["oak-node-1"].status == "running"


def test_a_location_may_be_closed(simulator: Simulator, order: Order) -> None:
    simulator.faults.location_disabled("fsn1")

    with pytest.raises(APIException, match="server location disabled"):
        order("oak-node-1", "cx33")

    order("oak-node-1", "cx33", "nbg1")


def test_what_is_sold_out_says_so(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.sold_out("cx23", "nbg1")

    kind = client.server_types.get_by_name("cx23")

    assert kind
    assert kind.locations
    assert [each.available for each in kind.locations] == [True, False, True]


@pytest.mark.parametrize("scripted", [True, False])
def test_an_unsupported_location_has_no_fields(simulator: Simulator, order: Order, scripted: bool) -> None:
    if scripted:
        simulator.faults.unsupported_location("cx23", "hel1")

    with pytest.raises(APIException) as failed:
        order("oak-node-1", *(("cx23", "hel1") if scripted else ("cax11", "ash")))

    assert failed.value.code == "invalid_input"
    assert failed.value.message == "unsupported location for server type"
    assert failed.value.details == {}


def test_projects_have_limits() -> None:
    simulator = Simulator(latency=Latency(scale=0), limits=Limits(servers=1, primary_ips=2))
    with simulator.running():
        client = client_of(simulator)
        kind = client.server_types.get_by_name("cx23")
        assert kind
        client.servers.create("oak-node-1", kind, Image(name="debian-13"))

        with pytest.raises(APIException, match="server limit exceeded") as failed:
            client.servers.create("oak-node-2", kind, Image(name="debian-13"))
        with pytest.raises(APIException, match="Primary IP limit exceeded"):
            client.primary_ips.create("ipv4", "mine", Location(name="fsn1"))

    assert failed.value.code == "resource_limit_exceeded"


def test_hours_are_billed_once_begun(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    server = settled(order()).server
    server.power_off().wait_until_finished()
    price = Decimal(
        client.request("GET", "/server_types?name=cx23")["server_types"][0]["prices"][0]["price_hourly"][
            "net"
        ]
    )
    assert simulator.cost() == price
    simulator.advance(3601)
    assert simulator.cost() == 2 * price
    simulator.change_prices(Decimal(2))

    server.delete().wait_until_finished()
    assert simulator.billable() == []
    simulator.advance(7200)
    assert simulator.cost() == 2 * price
    order("oak-node-2")

    assert simulator.cost() == 4 * price
    assert simulator.billable() == ["server oak-node-2"]


def test_prices_are_texts(client: hcloud.Client) -> None:
    pricing = client.request("GET", "/pricing")["pricing"]

    assert {each["type"] for each in pricing["primary_ips"]} == {"ipv4", "ipv6"}
    assert isinstance(pricing["server_types"][0]["prices"][0]["price_hourly"]["net"], str)

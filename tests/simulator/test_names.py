"""Names, labels, selectors and pages."""

import hcloud
import pytest
from hcloud import APIException

from tests.simulator import Simulator
from tests.simulator.clients import Order


@pytest.mark.parametrize("name", ["Oak", "oak_node", "-oak", "o" * 64, ""])
def test_names_are_hostnames(order: Order, name: str) -> None:
    with pytest.raises(APIException) as failed:
        order(name)

    assert failed.value.code == "invalid_input"


def test_names_are_unique(order: Order) -> None:
    order()

    with pytest.raises(APIException, match="server name is already used") as failed:
        order()

    assert failed.value.code == "uniqueness_error"


@pytest.mark.parametrize(
    "labels",
    [{"hetzner.cloud/mine": "1"}, {"address": "2001:db8::1"}, {"-key": ""}, {"key": "x" * 64}, {"a/b/c": ""}],
)
def test_labels_are_checked(order: Order, labels: dict[str, str]) -> None:
    with pytest.raises(APIException) as failed:
        order(labels=labels)

    assert failed.value.code == "invalid_input"


def test_user_data_has_a_limit(order: Order) -> None:
    order("oak-node-1", user_data="x" * 32768)

    with pytest.raises(APIException, match="invalid_input"):
        order("oak-node-2", user_data="x" * 32769)


def test_pages_and_exact_names(client: hcloud.Client) -> None:
    for number in range(30):
        client.placement_groups.create(f"group-{number}", "spread")

    page = client.placement_groups.get_list()
    assert len(page.placement_groups) == 25
    assert page.meta.pagination
    assert page.meta.pagination.next_page == 2
    assert page.meta.pagination.total_entries == 30
    assert len(client.placement_groups.get_all()) == 30
    assert client.placement_groups.get_by_name("group-") is None
    assert len(client.placement_groups.get_list(name="group-1").placement_groups) == 1
    with pytest.raises(APIException) as failed:
        client.placement_groups.get_list(per_page=51)
    assert failed.value.code == "invalid_input"


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("env=prod", "a"),
        ("env==prod", "a"),
        ("env!=prod", "bc"),
        ("env", "ab"),
        ("!env", "c"),
        ("env in (prod, test)", "ab"),
        ("env notin (prod,test)", "c"),
        ("env in (prod,test),tier=1", "b"),
        ("example.com/role=node", "c"),
    ],
)
def test_label_selectors(client: hcloud.Client, selector: str, found: str) -> None:
    wanted = {"a": {"env": "prod"}, "b": {"env": "test", "tier": "1"}, "c": {"example.com/role": "node"}}
    for name, labels in wanted.items():
        client.placement_groups.create(name, "spread", labels=labels)

    groups = client.placement_groups.get_all(label_selector=selector)

    assert "".join(each.name or "" for each in groups) == found


@pytest.mark.parametrize("selector", ["env=a=b", "env in prod", "a b", "=x", "a:b=1"])
def test_selectors_that_are_none(client: hcloud.Client, selector: str) -> None:
    with pytest.raises(APIException) as failed:
        client.placement_groups.get_all(label_selector=selector)

    assert failed.value.code == "invalid_input"


def test_labels_are_replaced_as_a_whole(simulator: Simulator, order: Order) -> None:
    server = order(labels={"a": "1", "b": "2"}).server

    server.update(labels={"b": "3"})

    assert simulator.servers["oak-node-1"].labels == {"b": "3"}

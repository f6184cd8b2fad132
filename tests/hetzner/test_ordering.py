"""What servers are ordered with: a place that has room, keys, addresses, a group, rules."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from morpheus.cloud import Order, Server
from morpheus.cloud.hetzner import HetznerCloud, servers
from morpheus.errors import CloudError, InvalidInputError, MissingPartError
from morpheus.settings import FirewallSettings, SshSettings
from tests.hetzner.project import OURS, ensure, order, provider, public_key, simulated
from tests.simulator import Limits, Simulator
from tests.simulator.clients import client_of


def sources(simulator: Simulator, port: str) -> list[str]:
    """Who may reach *port* through the only firewall."""
    (firewall,) = simulator.firewalls.values()
    return [each for rule in firewall.rules if rule.get("port") == port for each in rule["source_ips"]]


# Before anything is asked


def test_a_machine_without_ipv6_makes_no_node_that_has_nothing_else(
    simulator: Simulator, tmp_path: Path
) -> None:
    with pytest.raises(MissingPartError, match="IPv6"):
        provider(simulator, tmp_path, ipv6_target="2001:db8::1%nowhere").ensure_server(order(1))

    assert simulator.requests["POST /servers"] == 0


def test_orders_that_cannot_be_are_refused_before_any_request(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    too_much = Order("oak-node-1", "oak", OURS, "run", user_data="x" * 32769)
    for wrong in (too_much, order(1, run="no label, with spaces"), order(1, registry_id="x" * 64)):
        with pytest.raises(InvalidInputError):
            cloud.ensure_server(wrong)

    assert not simulator.requests


def test_there_has_to_be_a_token(simulator: Simulator, tmp_path: Path) -> None:
    for token in (None, "", " "):
        with pytest.raises(InvalidInputError, match="set HETZNER_API_TOKEN"):
            provider(simulator, tmp_path, token=token)


# Room, limits, what is sold


def test_a_sold_out_place_is_passed_over_for_that_node_alone(simulator: Simulator, tmp_path: Path) -> None:
    cloud = provider(simulator, tmp_path, location=("fsn1", "nbg1"))
    simulator.faults.unavailable("cx23", "fsn1", times=1)

    made = ensure(cloud, 3)

    assert sorted(each.metadata["location"] for each in made) == ["fsn1", "fsn1", "nbg1"]
    assert simulator.requests["POST /servers"] == 4


def test_places_are_tried_in_the_configured_order(simulator: Simulator, tmp_path: Path) -> None:
    cloud = provider(
        simulator, tmp_path, location=("fsn1", "nbg1"), server_type="cx23", server_type_fallback=("cax11",)
    )
    simulator.faults.unavailable("cx23", "fsn1")
    simulator.faults.location_disabled("nbg1")

    server = cloud.ensure_server(order(1))

    assert (server.metadata["server_type"], server.metadata["location"]) == ("cax11", "fsn1")
    assert simulator.requests["GET /images"] == 2  # for each architecture its own


def test_a_location_that_a_type_does_not_have_is_passed_over(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.unsupported_location("cx23", "fsn1")

    server = provider(simulator, tmp_path, location=("fsn1", "hel1")).ensure_server(order(1))

    assert server.metadata["location"] == "hel1"


def test_what_is_known_to_be_sold_out_is_not_even_tried(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.sold_out("cx23", "fsn1")

    server = provider(simulator, tmp_path, location=("fsn1", "hel1")).ensure_server(order(1))

    assert server.metadata["location"] == "hel1"
    assert simulator.requests["POST /servers"] == 1


def test_when_no_place_is_left_all_tries_are_named(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.unavailable()

    with pytest.raises(CloudError, match=r"no place in 2 tries.*cx23 in fsn1.*cx23 in nbg1"):
        provider(simulator, tmp_path, location=("fsn1", "nbg1")).ensure_server(order(1))

    assert simulator.billable() == []


def test_tries_are_bounded(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "TRIES", 2)
    simulator.faults.unavailable()

    with pytest.raises(CloudError, match="in 2 tries"):
        provider(simulator, tmp_path, location=("fsn1", "nbg1", "hel1")).ensure_server(order(1))

    assert simulator.requests["POST /servers"] == 2


@pytest.mark.parametrize("limits", [Limits(servers=2), Limits(primary_ips=2)])
def test_a_projects_limit_stops_at_once_and_says_so(limits: Limits, tmp_path: Path) -> None:
    with simulated(limits=limits) as simulator:
        cloud = provider(simulator, tmp_path, location=("fsn1", "nbg1"))
        for k in (1, 2):
            cloud.ensure_server(order(k))

        with pytest.raises(CloudError, match=r"limit.*Cloud Console"):
            cloud.ensure_server(order(3))

        assert simulator.requests["POST /servers"] == 3


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("server_type", "cx99", "there is no server type cx99; known are"),
        ("location", "moon", "there is no location moon; known are"),
        ("image", "debian-1", "there is no image debian-1"),
    ],
)
def test_what_does_not_exist_is_said(
    simulator: Simulator, tmp_path: Path, setting: str, value: str, message: str
) -> None:
    given: Any = {setting: value}
    cloud = provider(simulator, tmp_path, **given)

    with pytest.raises(InvalidInputError, match=message):
        cloud.ensure_server(order(1))

    assert simulator.billable() == []


def test_what_is_not_sold_any_more_is_said_before_a_try(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="cx22 in fsn1: not sold any more since"):
        provider(simulator, tmp_path, server_type="cx22").ensure_server(order(1))

    assert simulator.requests["POST /servers"] == 0


@pytest.mark.parametrize("name", ["cx23", "debian-13"])
def test_what_will_not_be_sold_any_more_is_warned_of(
    cloud: HetznerCloud, simulator: Simulator, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    simulator.deprecate(name, days=30)

    cloud.ensure_server(order(1))

    assert f"{name}" in caplog.text
    assert "deprecated" in caplog.text


# Keys, addresses, groups, rules


def test_the_same_key_under_another_name_is_used_and_left_alone(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    client_of(simulator).ssh_keys.create("somebody's", public_key(), labels={"theirs": "yes"})

    cloud.ensure_server(order(1))

    assert list(simulator.ssh_keys) == ["somebody's"]
    assert simulator.ssh_keys["somebody's"].labels == {"theirs": "yes"}


def test_a_key_name_that_another_key_has_is_not_used(simulator: Simulator, tmp_path: Path) -> None:
    client_of(simulator).ssh_keys.create("mine", public_key(7))
    cloud = provider(simulator, tmp_path)
    cloud._servers._settings = cloud._settings.model_copy(
        update={"ssh": SshSettings(key_name="mine", key_path=tmp_path / "key")}
    )

    cloud.ensure_server(order(1))

    assert len(simulator.ssh_keys) == 2


def test_without_a_key_nothing_is_asked(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    cloud = provider(simulator, tmp_path)
    cloud._servers._settings = cloud._settings.model_copy(update={"ssh": SshSettings()})

    with pytest.raises(MissingPartError, match="ssh-keygen"):
        cloud.ensure_server(order(1))

    assert simulator.requests["POST /servers"] == 0


def test_nodes_have_ipv6_alone_and_ipv4_by_setting(simulator: Simulator, tmp_path: Path) -> None:
    only = provider(simulator, tmp_path).ensure_server(order(1))
    cloud = provider(simulator, tmp_path)
    settings = cloud._settings.model_copy(
        update={"ipv4": cloud._settings.ipv4.model_copy(update={"enabled": True})}
    )
    both = HetznerCloud(settings, FirewallSettings()).ensure_server(order(2))

    assert only.ip.endswith("::1")
    assert "ipv4" not in only.metadata
    assert both.metadata["ipv4"]
    assert float(both.metadata["price_monthly"]) > float(only.metadata["price_monthly"])


def test_ten_nodes_share_a_group_and_the_next_has_its_own(cloud: HetznerCloud, simulator: Simulator) -> None:
    ensure(cloud, 11)

    groups = [simulator.servers[f"oak-node-{k}"].placement_group for k in range(1, 12)]
    assert len({*groups[:10]}) == 1
    assert groups[10] not in groups[:10]
    assert None not in groups


def test_only_ssh_is_open_until_nodes_are_admitted(cloud: HetznerCloud, simulator: Simulator) -> None:
    made = ensure(cloud, 3)
    (firewall,) = simulator.firewalls.values()
    ports = {rule.get("port") for rule in firewall.rules}
    assert ports == {"22", None}

    cloud.admit(OURS, "oak", made)

    (firewall,) = simulator.firewalls.values()
    routes = [rule for rule in firewall.rules if rule.get("port") == "6222"]
    assert sorted(routes[0]["source_ips"]) == sorted(f"{each.ip}/128" for each in made)
    before = simulator.requests["POST /firewalls/{id}/actions/set_rules"]
    cloud.admit(OURS, "oak", made)
    assert simulator.requests["POST /firewalls/{id}/actions/set_rules"] == before


@pytest.mark.parametrize(
    "written", ["::/0", "0.0.0.0/0", "::1/64", "192.0.2.1/32", "fe80::1%eth0", "", "oak"]
)
def test_an_address_that_is_not_one_machines_opens_nothing(
    cloud: HetznerCloud, simulator: Simulator, caplog: pytest.LogCaptureFixture, written: str
) -> None:
    """Other programs may write the registry that addresses come from."""
    (made,) = ensure(cloud, 1)

    cloud.admit(OURS, "oak", [made, Server("oak-node-2", written, {})])

    assert sources(simulator, "6222") == [f"{made.ip}/128"]
    assert f"{written!a} is not the address of one machine" in caplog.text


def test_any_number_of_networks_may_be_let_in(simulator: Simulator, tmp_path: Path) -> None:
    offices = [f"10.0.{k}.0/24" for k in range(201)]
    firewall = FirewallSettings(ssh=tuple(map(ip_network, offices)))
    cloud = HetznerCloud(provider(simulator, tmp_path)._settings, firewall)

    cloud.ensure_server(order(1))

    assert sources(simulator, "22") == offices


def test_no_server_is_born_behind_what_settings_opened_earlier(simulator: Simulator, tmp_path: Path) -> None:
    """An earlier run may have left its firewall; nodes that are there keep their routes."""
    settings, anybody = provider(simulator, tmp_path)._settings, (ip_network("0.0.0.0/0"),)
    earlier = HetznerCloud(settings, FirewallSettings(nats=anybody, monitoring=anybody))
    made = ensure(earlier, 2)
    earlier.admit(OURS, "oak", made)
    (firewall,) = simulator.firewalls.values()
    firewall.rules.append({**firewall.rules[-1], "source_ips": ["192.0.2.0/24"]})
    simulator.faults.unavailable()  # what is made stands behind the rules as they are now

    now = HetznerCloud(settings, FirewallSettings(ssh=(ip_network("192.0.2.0/24"),)))
    with pytest.raises(CloudError, match="no place"):
        now.ensure_server(order(3))

    assert {rule.get("port") for rule in firewall.rules} == {"22", None, "6222"}
    assert sources(simulator, "22") == ["192.0.2.0/24"]
    assert sources(simulator, "6222") == sorted(f"{each.ip}/128" for each in made)


def test_ssh_comes_in_where_it_answers(simulator: Simulator, tmp_path: Path) -> None:
    """Each machine keeps the port that it was born with, whatever the setting is later."""
    settings, office = provider(simulator, tmp_path)._settings, (ip_network("192.0.2.0/24"),)
    earlier = HetznerCloud(settings, FirewallSettings(ssh=office), ssh_port=2222)
    (first,) = ensure(earlier, 1)
    assert (sources(simulator, "22"), sources(simulator, "2222")) == ([], ["192.0.2.0/24"])

    now = HetznerCloud(settings, FirewallSettings())
    second = now.ensure_server(order(2))
    assert sources(simulator, "22") == sources(simulator, "2222") == ["0.0.0.0/0", "::/0"]
    born = [replace(first, metadata={"ssh_port": "2222"}), replace(second, metadata={"ssh_port": "22"})]
    for nodes, leaving in ((born, ()), (born[1:], born[:1])):
        now.admit(OURS, "oak", nodes, leaving)
        assert sources(simulator, "22") == sources(simulator, "2222") == ["0.0.0.0/0", "::/0"]
        assert sources(simulator, "6222") == sorted(f"{each.ip}/128" for each in nodes)
    now.admit(OURS, "oak", born[1:])
    assert (sources(simulator, "22"), sources(simulator, "2222")) == (["0.0.0.0/0", "::/0"], [])
    earlier.admit(OURS, "oak", [])  # nothing is recorded of what comes next
    assert (sources(simulator, "22"), sources(simulator, "2222")) == ([], ["192.0.2.0/24"])


def test_rules_that_are_right_are_not_set_when_servers_are_added(
    simulator: Simulator, tmp_path: Path
) -> None:
    earlier = provider(simulator, tmp_path)
    earlier.admit(OURS, "oak", ensure(earlier, 2))

    provider(simulator, tmp_path).ensure_server(order(3))

    assert simulator.requests["POST /firewalls/{id}/actions/set_rules"] == 1

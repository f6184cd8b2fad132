"""Each trap of the API, and the outcome that a user would want."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import hcloud
import pytest
from hcloud.images import Image
from hcloud.server_types import ServerType

from morpheus.cloud import Order
from morpheus.cloud.hetzner import HetznerCloud, api, network, servers
from morpheus.errors import (
    CloudBusyError,
    CloudError,
    InvalidInputError,
    MissingPartError,
    MorpheusError,
    NotReadyError,
    RefusedError,
    TransientError,
)
from morpheus.settings import SshSettings
from tests.hetzner.project import OURS, THEIRS, ensure, order, provider, public_key, simulated
from tests.simulator import Latency, Limits, Simulator


def client(simulator: Simulator) -> hcloud.Client:
    """Somebody else in the same project."""
    return hcloud.Client(simulator.token, api_endpoint=f"{simulator.url}/v1")


def repeat(cloud: HetznerCloud, one: Order, times: int = 5) -> None:
    """As a task does: until it succeeds, a few times."""
    for k in range(times):
        try:
            cloud.ensure_server(one)
        except TransientError:
            if k == times - 1:
                raise
        else:
            return


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


# Lost answers and taken names


@pytest.mark.parametrize("after", ["reset", "timeout"])
def test_a_server_whose_answer_was_lost_is_adopted(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    monkeypatch.setattr(api, "ANSWER_TIMEOUT", 0.5)
    cloud = provider(simulator, tmp_path)
    simulator.faults.lose_reply("POST /servers", after=after)  # type: ignore[arg-type]

    repeat(cloud, order(1))

    assert simulator.billable() == ["server oak-node-1"]
    assert simulator.requests["POST /servers"] <= 2


@pytest.mark.parametrize(
    "operation", ["POST /firewalls", "POST /placement_groups", "POST /ssh_keys", "GET /servers"]
)
def test_what_servers_share_is_made_once_although_answers_are_lost(
    cloud: HetznerCloud, simulator: Simulator, operation: str
) -> None:
    simulator.faults.lose_reply(operation)

    repeat(cloud, order(1))

    counts = [len(each) for each in (simulator.firewalls, simulator.placement_groups, simulator.ssh_keys)]
    assert counts == [1, 1, 1]


def test_a_name_that_somebody_else_took_is_said_and_never_hammered(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    client(simulator).servers.create("oak-node-1", ServerType(name="cx23"), Image(name="debian-13"))

    for _ in range(2):
        with pytest.raises(RefusedError, match="choose another name"):
            cloud.ensure_server(order(1))

    assert simulator.requests["POST /servers"] == 1


def test_two_registries_share_a_project_without_touching_each_other(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    ensure(cloud, 2, forest="oak", registry_id=OURS)
    ensure(cloud, 2, forest="elm", registry_id=THEIRS)

    for name in ("elm-node-1", "elm-node-2"):
        with pytest.raises(RefusedError):
            cloud.delete_server(OURS, name)
    for name in ("oak-node-1", "oak-node-2"):
        cloud.delete_server(OURS, name)
    cloud.clear(OURS, "oak")

    assert sorted(simulator.billable()) == ["server elm-node-1", "server elm-node-2"]
    assert len(simulator.firewalls) == len(simulator.placement_groups) == 1


# What the API begins and does not finish


def test_a_server_that_did_not_start_is_switched_on(cloud: HetznerCloud, simulator: Simulator) -> None:
    simulator.faults.action_error("start_server")

    cloud.ensure_server(order(1))

    assert simulator.servers["oak-node-1"].status == "running"


def test_a_server_without_its_firewall_gets_it(cloud: HetznerCloud, simulator: Simulator) -> None:
    simulator.faults.action_error("apply_firewall")

    cloud.ensure_server(order(1))

    assert simulator.servers["oak-node-1"].firewalls


@pytest.mark.parametrize("command", ["start_server", "apply_firewall"])
def test_an_action_that_fails_again_is_asked_for_again_by_the_task(
    cloud: HetznerCloud, simulator: Simulator, command: str
) -> None:
    simulator.faults.action_error(command, times=3)

    with pytest.raises(CloudBusyError, match=f"{command} failed"):
        cloud.ensure_server(order(1))
    repeat(cloud, order(1))

    server = simulator.servers["oak-node-1"]
    assert (server.status, [*server.firewalls.values()]) == ("running", ["applied"])
    assert simulator.requests["POST /servers"] == 1


def test_an_adopted_server_whose_firewall_failed_gets_it(cloud: HetznerCloud, simulator: Simulator) -> None:
    """The answer was lost, so nobody saw that action fail; the API goes on to list the firewall."""
    simulator.faults.lose_reply("POST /servers")
    simulator.faults.action_error("apply_firewall")

    repeat(cloud, order(1))

    assert [*simulator.servers["oak-node-1"].firewalls.values()] == ["applied"]


def test_rules_that_a_server_did_not_take_are_set_again(cloud: HetznerCloud, simulator: Simulator) -> None:
    made = ensure(cloud, 2)
    simulator.faults.action_error("apply_firewall")

    cloud.admit(OURS, "oak", made)

    assert simulator.requests["POST /firewalls/{id}/actions/set_rules"] == 2


def test_a_server_that_could_not_be_made_is_removed_and_made_again(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    simulator.faults.action_error("create_server")

    with pytest.raises(CloudBusyError, match="create_server failed"):
        cloud.ensure_server(order(1))
    assert simulator.billable() == []

    assert cloud.ensure_server(order(1)).ip


def test_a_creation_that_never_ends_is_given_up_with_what_was_seen(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.action_stuck("start_server", 3600)

    with pytest.raises(NotReadyError, match=r"Waited 1 s for oak-node-1 to run; last seen: start_server"):
        provider(simulator, tmp_path, create_timeout=1).ensure_server(order(1))


def test_a_server_that_is_off_is_switched_on_when_it_is_adopted(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    cloud.ensure_server(order(1))
    other = client(simulator)
    server = other.servers.get_by_name("oak-node-1")
    assert server
    server.power_off().wait_until_finished()

    cloud.ensure_server(order(1))

    assert simulator.servers["oak-node-1"].status == "running"


def test_a_server_that_lost_its_firewall_gets_it_back_when_it_is_adopted(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    cloud.ensure_server(order(1))
    firewall = client(simulator).firewalls.get_all()[0]
    firewall.remove_from_resources(firewall.applied_to or [])
    assert not simulator.servers["oak-node-1"].firewalls

    cloud.ensure_server(order(1))

    assert simulator.servers["oak-node-1"].firewalls


# Removing


def test_a_locked_server_is_deleted_when_its_action_has_ended(tmp_path: Path) -> None:
    with simulated(latency=Latency(create=0, start=0.6, firewall=0, delete=0)) as simulator:
        cloud = provider(simulator, tmp_path)
        other = client(simulator)
        cloud.ensure_server(order(1))
        server = other.servers.get_by_name("oak-node-1")
        assert server
        server.reboot()

        cloud.delete_server(OURS, "oak-node-1")

        assert simulator.billable() == []


def test_a_protected_server_is_reported_and_not_forced(cloud: HetznerCloud, simulator: Simulator) -> None:
    cloud.ensure_server(order(1))
    server = client(simulator).servers.get_by_name("oak-node-1")
    assert server
    server.change_protection(delete=True, rebuild=True)

    with pytest.raises(CloudError, match="protected"):
        cloud.delete_server(OURS, "oak-node-1")

    assert simulator.billable() == ["server oak-node-1"]


def test_a_firewall_that_stays_in_use_is_reported(
    cloud: HetznerCloud, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "LEAVE_TIMEOUT", 0.2)
    cloud.ensure_server(order(1))
    cloud.delete_server(OURS, "oak-node-1")
    simulator.faults.zombie_firewall()

    with pytest.raises(CloudError, match="morpheus teardown oak again"):
        cloud.clear(OURS, "oak")

    simulator.faults.clear()
    cloud.clear(OURS, "oak")
    assert not simulator.firewalls


# Limits of requests, tokens, busy times


@pytest.mark.parametrize("status", [409, 502, 503, 504])
def test_a_busy_api_is_asked_again(cloud: HetznerCloud, simulator: Simulator, status: int) -> None:
    simulator.faults.status("POST /servers", status)

    repeat(cloud, order(1))

    assert simulator.billable() == ["server oak-node-1"]


def test_the_projects_limit_of_requests_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LONGEST_PAUSE", 0.5)
    caplog.set_level(logging.INFO, "morpheus.cloud")
    with simulated(limits=Limits(requests_per_hour=12, refill=20)) as simulator:
        cloud = provider(simulator, tmp_path)
        for k in range(1, 4):
            repeat(cloud, order(k))

        assert not [each for each in simulator.log if each[3] == 429]
    assert "limit of requests is nearly used up" in caplog.text


def test_a_wrong_token_is_named_and_never_shown(simulator: Simulator, tmp_path: Path) -> None:
    wrong = "w" * 64
    with pytest.raises(InvalidInputError, match="HETZNER_API_TOKEN") as refused:
        provider(simulator, tmp_path, token=wrong).ensure_server(order(1))

    assert wrong not in str(refused.value)


def test_a_token_that_may_only_read_is_named(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="may only read"):
        provider(simulator, tmp_path, token=simulator.read_only_token).ensure_server(order(1))


def test_a_token_with_what_a_copy_adds_to_it_is_taken(simulator: Simulator, tmp_path: Path) -> None:
    provider(simulator, tmp_path, token=f"\ufeff {simulator.token}\r\n").ensure_server(order(1))


def test_the_token_stands_in_no_error_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with simulated(limits=Limits(requests_per_hour=2, refill=0.01)) as simulator:
        simulator.faults.token_in_message()
        cloud = provider(simulator, tmp_path)
        cloud._servers._api._pace.before = lambda request: request  # type: ignore[method-assign]
        for each in (cloud._servers._api.client._client, cloud._servers._api.client._client_hetzner):
            each._session.auth = None
            each._retry_max_retries = 0
        with pytest.raises(MorpheusError) as failed:
            cloud.ensure_server(order(1))

    error: BaseException | None = failed.value
    assert "***" in str(error)
    while error:
        assert simulator.token not in f"{error} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert simulator.token not in caplog.text


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


# Keys, addresses, groups, rules


def test_the_same_key_under_another_name_is_used_and_left_alone(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    client(simulator).ssh_keys.create("somebody's", public_key(), labels={"theirs": "yes"})

    cloud.ensure_server(order(1))

    assert list(simulator.ssh_keys) == ["somebody's"]
    assert simulator.ssh_keys["somebody's"].labels == {"theirs": "yes"}


def test_a_key_name_that_another_key_has_is_not_used(simulator: Simulator, tmp_path: Path) -> None:
    client(simulator).ssh_keys.create("mine", public_key(7))
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
    both = HetznerCloud(settings, cloud._firewall).ensure_server(order(2))

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


# What it takes


@pytest.mark.long
def test_planting_five_nodes_takes_few_requests(tmp_path: Path) -> None:
    with simulated(latency=Latency()) as simulator:
        cloud = provider(simulator, tmp_path)
        cloud.price()
        cloud.list_servers(OURS, "oak")
        made = ensure(cloud, 5)
        cloud.admit(OURS, "oak", made)

        assert sum(simulator.requests.values()) <= 36  # of 40: the rest is the flow's


def test_what_costs_money_is_billed_until_it_is_gone(cloud: HetznerCloud, simulator: Simulator) -> None:
    ensure(cloud, 3)
    later = simulator.clock() + timedelta(hours=2)
    assert simulator.cost(later) > 0
    assert len(simulator.billable()) == 3

    for k in (1, 2, 3):
        cloud.delete_server(OURS, f"oak-node-{k}")
    cloud.clear(OURS, "oak")

    assert simulator.billable() == []
    assert not simulator.firewalls
    assert not simulator.placement_groups

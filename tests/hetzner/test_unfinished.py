"""What the API loses, leaves half done or holds on to, and the outcome that a user would want."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from hcloud.images import Image
from hcloud.server_types import ServerType

from morpheus.cloud.hetzner import HetznerCloud, api, network
from morpheus.errors import AbandonedError, CloudBusyError, CloudError, NotReadyError, RefusedError
from morpheus.wait import end_waits, let_wait, wait_until
from tests.hetzner.project import OURS, THEIRS, ensure, order, provider, repeat, simulated
from tests.simulator import Latency, Simulator
from tests.simulator.clients import client_of

PUT_ON, TAKEN_OFF = (
    f"POST /firewalls/{{id}}/actions/{each}" for each in ("apply_to_resources", "remove_from_resources")
)

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
    client_of(simulator).servers.create("oak-node-1", ServerType(name="cx23"), Image(name="debian-13"))

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


def test_a_firewall_that_is_still_coming_is_waited_for_and_never_taken_off(tmp_path: Path) -> None:
    """The answer was lost while the API was at it; the server runs already."""
    with simulated(latency=Latency(create=0, start=0, firewall=1, delete=0)) as simulator:
        cloud = provider(simulator, tmp_path)
        simulator.faults.lose_reply("POST /servers")

        repeat(cloud, order(1))

        assert [*simulator.servers["oak-node-1"].firewalls.values()] == ["applied"]
        assert simulator.requests[TAKEN_OFF] == simulator.requests[PUT_ON] == 0


def test_a_firewall_that_somebody_applies_meanwhile_is_not_taken_off(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    cloud.ensure_server(order(1))
    (firewall,) = client_of(simulator).firewalls.get_all()
    (seen,) = client_of(simulator).servers.get_all()
    assert seen.public_net
    seen.public_net.firewalls = []  # as it was a moment ago

    around = cloud._surroundings(OURS, "oak")
    around.protect(around.firewalls()[0], seen)

    assert [*simulator.servers["oak-node-1"].firewalls] == [firewall.id]
    assert (simulator.requests[PUT_ON], simulator.requests[TAKEN_OFF]) == (1, 0)


def test_a_firewall_that_nothing_is_known_of_stays_as_it_is(
    cloud: HetznerCloud, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "RULES_TIMEOUT", 0.3)
    cloud.ensure_server(order(1))
    server = simulator.servers["oak-node-1"]
    server.firewalls = dict.fromkeys(server.firewalls, "pending")

    with pytest.raises(NotReadyError, match="the firewall of oak-node-1; last seen: pending"):
        cloud.ensure_server(order(1))

    assert simulator.requests[TAKEN_OFF] == 0


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
    other = client_of(simulator)
    server = other.servers.get_by_name("oak-node-1")
    assert server
    server.power_off().wait_until_finished()

    cloud.ensure_server(order(1))

    assert simulator.servers["oak-node-1"].status == "running"


def test_a_server_that_lost_its_firewall_gets_it_back_when_it_is_adopted(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    cloud.ensure_server(order(1))
    firewall = client_of(simulator).firewalls.get_all()[0]
    firewall.remove_from_resources(firewall.applied_to or [])
    assert not simulator.servers["oak-node-1"].firewalls

    cloud.ensure_server(order(1))

    assert simulator.servers["oak-node-1"].firewalls


# Removing


def test_a_locked_server_is_deleted_when_its_action_has_ended(tmp_path: Path) -> None:
    with simulated(latency=Latency(create=0, start=0.6, firewall=0, delete=0)) as simulator:
        cloud = provider(simulator, tmp_path)
        other = client_of(simulator)
        cloud.ensure_server(order(1))
        server = other.servers.get_by_name("oak-node-1")
        assert server
        server.reboot()

        cloud.delete_server(OURS, "oak-node-1")

        assert simulator.billable() == []


def test_a_server_is_gone_when_that_is_said(tmp_path: Path) -> None:
    with simulated(latency=Latency(create=0, start=0, firewall=0, delete=0.7)) as simulator:
        cloud = provider(simulator, tmp_path)
        cloud.ensure_server(order(1))

        cloud.delete_server(OURS, "oak-node-1")

        assert simulator.servers == {}


def test_a_server_is_gone_when_that_is_said_although_its_action_is_not_found(tmp_path: Path) -> None:
    with simulated(latency=Latency(create=0, start=0, firewall=0, delete=0.7)) as simulator:
        cloud = provider(simulator, tmp_path)
        cloud.ensure_server(order(1))
        simulator.faults.status("GET /actions", 404, code="not_found")

        cloud.delete_server(OURS, "oak-node-1")

        assert simulator.servers == {}
        assert simulator.requests["DELETE /servers/{id}"] > 1


def test_a_protected_server_is_reported_and_not_forced(cloud: HetznerCloud, simulator: Simulator) -> None:
    cloud.ensure_server(order(1))
    server = client_of(simulator).servers.get_by_name("oak-node-1")
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


@pytest.mark.long
def test_while_the_api_is_away_everybody_who_waits_says_so(simulator: Simulator, tmp_path: Path) -> None:
    cloud = provider(simulator, tmp_path, create_timeout=4)
    simulator.faults.action_stuck("start_server", 3600, times=None)
    simulator.faults.refuse_connection("GET /actions", times=None)

    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(cloud.ensure_server, order(k)) for k in (1, 2, 3)]

    assert {type(each.exception()) for each in ends} == {NotReadyError}
    assert all("last seen: Cannot look at what was begun" in str(each.exception()) for each in ends)


def test_who_waits_for_a_server_ends_when_the_run_is_taken_back(
    cloud: HetznerCloud, simulator: Simulator
) -> None:
    simulator.faults.action_stuck("start_server", 3600, times=None)
    let_wait()
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(copy_context().run, cloud.ensure_server, order(k)) for k in (1, 2, 3)]
        wait_until("the orders", lambda: len(simulator.servers), lambda n: n == 3, str, timeout=20)
        started = time.monotonic()

        end_waits()

    let_wait()
    assert time.monotonic() - started < 20  # the server would take an hour
    assert {type(each.exception()) for each in ends} == {AbandonedError}

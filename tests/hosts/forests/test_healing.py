"""Machines that others change: deleted, reinstalled; and the fresh ones that take the place of those lost."""

from collections.abc import Iterator

import pytest

from morpheus.cli.temporary import Temporary
from morpheus.errors import RefusedError
from morpheus.forest import Status
from tests.flows.homes import client
from tests.hosts.forests.stands import Stand, standing
from tests.hosts.forests.test_births import apart, at_birth
from tests.hosts.forests.test_power import filled, is_whole
from tests.lab import Lab
from tests.lab.commands import until
from tests.simulator import Simulator

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def healed(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Three nodes that these tests treat badly, in their order."""
    home = tmp_path_factory.mktemp("healed") / "home"
    with standing(lab, home, 7, 3, {"provisioning": {"readiness_timeout": 15}}) as stand:
        yield stand


def delete(stand: Stand, name: str) -> None:
    """As in the Cloud Console."""
    host, server = stand.host(name), client(stand.simulator).servers.get_by_name(name)
    assert server
    server.delete()
    until(f"{name} is off", lambda: not host.is_on)


def names(stand: Stand) -> list[str]:
    return [node.name for node in stand.forest.nodes]


def test_a_deleted_machine_is_replaced_and_the_streams_are_whole(healed: Stand) -> None:
    stream = filled(healed.host("oak-node-1"))
    delete(healed, "oak-node-2")

    planted = healed.plant()

    assert names(healed) == ["oak-node-1", "oak-node-3", "oak-node-4"] == sorted(healed.simulator.servers)
    assert (healed.forest.status, planted.lost_streams) == (Status.ACTIVE, ())
    assert healed.counted() == {*names(healed)}
    is_whole(healed, stream)


def test_a_fresh_one_that_never_comes_to_the_cluster_is_replaced_too(healed: Stand) -> None:
    stream = filled(healed.host("oak-node-1"))
    delete(healed, "oak-node-3")
    others = [healed.host(name) for name in ("oak-node-1", "oak-node-4")]

    with at_birth(healed.lab, "oak-node-5", act=apart(healed.lab, "oak-node-5", there=others)):
        healed.plant()

    assert names(healed) == ["oak-node-1", "oak-node-4", "oak-node-6"] == sorted(healed.simulator.servers)
    assert healed.counted() == {*names(healed)}
    is_whole(healed, stream)


def test_a_reinstalled_machine_stops_whoever_comes_and_nothing_is_changed(healed: Stand) -> None:
    name, others, before = "oak-node-4", ["oak-node-1", "oak-node-6"], healed.forest
    server = client(healed.simulator).servers.get_by_name(name)
    assert server
    assert server.image
    server.rebuild(server.image)
    host, asked = healed.host(name), changes(healed.simulator)
    until(f"{name} boots anew", lambda: host.is_on and "sshd" in host.run(["ps", "ax"]).stdout)

    with pytest.raises(RefusedError, match=f"{name} .* shows another host key than its own") as refused:
        healed.plant()
    health = healed.status

    assert refused.value.exit_code == 5
    assert "Either the machine was rebuilt" in str(refused.value)
    assert (healed.forest, changes(healed.simulator)) == (before, asked)
    assert not host.run(["sh", "-c", "ls /etc/ssh/morpheus_host_key /etc/nimsforest/nats.conf"]).stdout
    assert not health.formation.formed
    assert "shows another host key than its own" in health.formation.states[name]
    until(  # its streams are short of a copy at first
        "the others are current",
        lambda: [healed.status.formation.states[each] for each in others] == ["current"] * 2,
        timeout=60,
    )


def changes(simulator: Simulator) -> int:
    """How many requests were no mere looks."""
    return sum(times for what, times in simulator.requests.items() if not what.startswith("GET"))

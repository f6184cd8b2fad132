"""Machines that come late, or never: what a plant does about each, and what it says."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from morpheus.errors import MachineError, NotReadyError
from morpheus.forest import Status
from tests.hosts.forests.stands import Stand
from tests.lab import Host, Lab

pytestmark = pytest.mark.root


@contextlib.contextmanager
def at_birth(lab: Lab, *names: str, act: Callable[[Host], object]) -> Iterator[None]:
    """Do something to each of these hosts as soon as it is switched on while the block runs."""
    before = set(lab.hosts)
    over = threading.Event()

    def born() -> list[Host]:
        hosts = [host for number, host in list(lab.hosts.items()) if number not in before]
        return [host for host in hosts if host.name in names and host.is_on]

    def watch() -> None:
        left = set(names)
        while left and not over.wait(0.005):
            for host in born():
                if host.name in left:
                    left.discard(host.name)
                    act(host)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_machines_that_are_late_are_waited_for(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """One refuses at first, one accepts no key yet, one listens but says nothing."""
    stand.lab.faults.sshd_late("oak-node-1", 4)
    stand.lab.faults.keys_late("oak-node-2", 4)
    stand.lab.faults.banner_late("oak-node-3", 4)

    with caplog.at_level(logging.INFO, "morpheus"):
        planted = stand.plant(nodes=3)

    assert [node.name for node in planted.forest.nodes] == ["oak-node-1", "oak-node-2", "oak-node-3"]
    assert stand.simulator.requests["POST /servers"] == 3
    assert stand.status.formation.formed
    for name, seen in {
        "oak-node-1": "refuses SSH connections: its sshd does not run (yet)",
        "oak-node-2": "does not accept the forest's SSH key for root",
        "oak-node-3": "accepts connections, but no SSH server speaks there (yet)",
    }.items():
        assert [line for line in caplog.text.splitlines() if f" {name} (" in line and seen in line]


def test_machines_that_do_not_get_ready_are_replaced_once_each(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    """One ends its birth in an error, one has no network, one goes off."""
    stand.home.settle(provisioning={"machine_timeout": 25})
    stand.lab.faults.cloud_init_error("oak-node-1")

    with (
        caplog.at_level(logging.WARNING, "morpheus"),
        at_birth(stand.lab, "oak-node-2", act=Host.unplug),
        at_birth(stand.lab, "oak-node-3", act=Host.power_cut),
    ):
        planted = stand.plant(nodes=3)

    names = ["oak-node-4", "oak-node-5", "oak-node-6"]
    assert [node.name for node in planted.forest.nodes] == names == sorted(stand.simulator.servers)
    assert stand.forest.status == Status.ACTIVE
    assert {host.name for host in stand.lab.hosts.values() if host.is_on} >= {*names}
    said = {record.getMessage().split()[0]: record.getMessage() for record in caplog.records}
    assert "cloud-init of oak-node-1 failed" in said["oak-node-1"]
    assert "the lab has broken this birth" in said["oak-node-1"]
    for name in ("oak-node-2", "oak-node-3"):
        assert f"Waited 25 s for {name} to let us in; last seen: {name}" in said[name]
        assert "does not answer: it does not run (yet), or a firewall is between" in said[name]
    assert stand.counted() == {*names}


def test_a_birth_that_fails_twice_ends_the_plant_with_the_end_of_its_log(stand: Stand) -> None:
    stand.lab.faults.cloud_init_error("oak-node-*")

    with pytest.raises(MachineError) as failed:
        stand.plant(nodes=1)

    said = str(failed.value)
    assert said.startswith("cloud-init of oak-node-2 failed: ")
    assert "The end of its log (/var/log/cloud-init-output.log):" in said
    assert "the lab has broken this birth" in said
    assert stand.simulator.requests["POST /servers"] == 2
    stand.nothing_remains()


def test_machines_that_nobody_reaches_end_the_plant_within_its_bound(stand: Stand) -> None:
    stand.home.settle(provisioning={"machine_timeout": 4})

    with (
        at_birth(stand.lab, "oak-node-1", "oak-node-2", act=Host.unplug),
        pytest.raises(
            NotReadyError, match=r"Waited 4 s for oak-node-2 to let us in; last seen: .*: it does not"
        ) as late,
    ):
        stand.plant(nodes=1)

    assert late.value.exit_code == 7
    stand.nothing_remains()


@pytest.mark.parametrize("lonely", [("oak-node-3",), ("oak-node-1", "oak-node-2", "oak-node-3")])
def test_nodes_that_cannot_reach_each_other_end_the_plant_within_its_bound(
    stand: Stand, lonely: tuple[str, ...]
) -> None:
    """A cluster that never was elects its first leader with all its nodes, or none."""
    stand.home.settle(provisioning={"readiness_timeout": 5})
    born = (f"oak-node-{k}" for k in (1, 2, 3))

    with at_birth(stand.lab, *born, act=apart(stand.lab, *lonely)), pytest.raises(NotReadyError) as late:
        stand.plant(nodes=3)

    assert str(late.value) == (
        "Waited 5 s for the 3 node(s) of oak to be ready; last seen: no server leads the meta group yet; "
        f"without a route to another node: {', '.join(lonely)}."
    )
    stand.nothing_remains()


def apart(lab: Lab, *lonely: str, there: Iterable[Host] = ()) -> Callable[[Host], None]:
    """Lets nothing pass between the *lonely* ones and any other of those who are born, or *there* already."""
    born = list(there)

    def cut(host: Host) -> None:
        for other in born:
            if {host.name, other.name} & {*lonely}:
                lab.firewalls.cut(host.line.name, other.line.name)
        born.append(host)

    return cut

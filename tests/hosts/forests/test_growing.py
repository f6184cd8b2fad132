"""A forest that grows and shrinks while programs use it from outside: nothing is lost, nobody is stopped.

One forest, and programs that use it all the time; the tests are its story, in their order.
"""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from flows.grow import grow
from flows.grow_check import grow_check
from flows.remove import remove_node
from morpheus.cli.temporary import Temporary
from morpheus.errors import MachineError, NotReadyError
from morpheus.forest import Status
from morpheus.machine import NATS, places
from morpheus.nats.listeners import CLIENT
from tests.flows.homes import UNMOVED
from tests.flows.traffic import Traffic, Way, copies
from tests.hetzner.zones.records import names as dns_names
from tests.hosts.forests.stands import Stand, monitor, standing
from tests.hosts.forests.test_births import at_birth
from tests.hosts.forests.test_reach import answering
from tests.lab import Host, Lab
from tests.lab.commands import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

GAP = 3.0  # seconds in which a publisher may get no acknowledgement while a node is added
LONGEST = 10.0  # the same where streams elect leaders anew, which takes them up to nine
SLOWLY = 0.05  # seconds between two messages of a publisher
FULL = 85  # percent
DOMAIN = "forests.example"
GIVEN: dict[str, Any] = {
    "hetzner": {"image": "debian-13"},
    "dns": {"provider": "hetzner", "domain": DOMAIN},
    "firewall": {"nats": ["::/0"]},
}


@pytest.fixture(scope="module")
def forest(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Three nodes on Debian 12 that let clients in; those that come are on Debian 13."""
    home = tmp_path_factory.mktemp("growing") / "home"
    with standing(lab, home, 61, 3, {**GIVEN, "hetzner": {"image": "debian-12"}}) as stand:
        stand.home.settle(**GIVEN)
        yield stand


@pytest.fixture(scope="module")
def way(lab: Lab, forest: Stand) -> Way:
    """As a program of the operator's comes from anywhere; it knows the three nodes of the beginning."""
    trusted = ssl.create_default_context(cadata=forest.secrets.authority.certificate)
    shown = {"tls": trusted, "user": CLIENT, "password": forest.secrets.client_password}
    return Way([f"nats://[{host.address}]:4222" for host in forest.hosts], shown, lab.outside.entered)


@pytest.fixture(scope="module")
def programs(way: Way) -> Iterator[Traffic]:
    """Programs that use the forest until the last test."""
    programs = Traffic(way, pause=SLOWLY)
    yield programs
    programs.stop()


@pytest.fixture(autouse=True)
def going_on(programs: Traffic) -> Iterator[None]:
    """No program fails meanwhile."""
    programs.begin_anew()
    yield
    programs.fine()
    print(f"{programs.acknowledged} acknowledged; longest gap of this test {programs.gap:.2f} s")


def starts(stand: Stand) -> Mapping[str, str]:
    """What systemd calls this run of each server; another one has another name."""
    show = ["systemctl", "show", "--value", "--property=InvocationID", places.UNITS[NATS]]
    return {host.name: host.run(show).stdout.strip() for host in stand.hosts}


def is_whole(stand: Stand, *numbers: int) -> bool:
    """Whether the nodes of these *numbers* are the forest, for whomever is asked about it."""
    stand.wait_formed()
    names, forest = {f"oak-node-{k}" for k in numbers}, stand.forest
    assert {node.name for node in forest.nodes} == {*stand.simulator.servers} == stand.counted() == names
    assert {monitor(host, "/jsz")["meta_cluster"]["cluster_size"] for host in stand.hosts} == {len(names)}
    assert (forest.status, {node.status for node in forest.nodes}) == (Status.ACTIVE, {Status.ACTIVE})
    assert (forest.lease, [node for node in forest.nodes if node.leaving]) == (None, [])
    addresses = {node.name: node.ip for node in forest.nodes}
    (firewall,) = stand.simulator.firewalls.values()
    (routes,) = [rule for rule in firewall.rules if rule.get("port") == "6222"]
    assert sorted(routes["source_ips"]) == sorted(f"{ip}/128" for ip in addresses.values())
    known = {key: found for key, found in dns_names(stand.simulator, DOMAIN).items() if "oak" in key}
    assert known == {f"{name}/AAAA": [ip] for name, ip in addresses.items()}
    assert {node.dns for node in forest.nodes} == {f"{name}.{DOMAIN}" for name in names}
    for host in stand.hosts:
        routed = set(re.findall(r"\[([0-9a-f:]+)\]:6222", host.run(["cat", places.LAYOUT.cluster]).stdout))
        assert routed | {host.address} == {*addresses.values()}
    return True


@contextlib.contextmanager
def taken(stand: Stand, name: str) -> Iterator[None]:
    """On the machine of *name* another program has the port of clients before its server comes."""
    with contextlib.ExitStack() as stack:

        def listen(host: Host) -> None:
            with host.namespace.entered():
                door = socket.create_server(("::", 4222), family=socket.AF_INET6, dualstack_ipv6=True)
                stack.enter_context(door)

        stack.enter_context(at_birth(stand.lab, name, act=listen))
        yield


@contextlib.contextmanager
def cut_off_once_there(stand: Stand, name: str) -> Iterator[None]:
    """As soon as the others count *name* as one of them, nothing passes between its machine and anybody."""
    others, over = stand.hosts, threading.Event()

    def sizes() -> set[int]:
        return {monitor(host, "/jsz")["meta_cluster"]["cluster_size"] for host in others}

    def watch() -> None:
        while not over.wait(0.01):
            if max(sizes()) > len(others):
                stand.lab[name].unplug()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_expansion_whose_server_cannot_start_is_taken_back(forest: Stand) -> None:
    before, claimed = starts(forest), forest.forest.last_expansion

    with taken(forest, "oak-node-4"), pytest.raises(MachineError, match="took the chosen ports"):
        grow("oak")

    assert is_whole(forest, 1, 2, 3)
    assert starts(forest) == before
    assert forest.forest.last_expansion != claimed


def test_an_expansion_whose_node_is_cut_off_once_it_is_there_is_taken_back(
    forest: Stand, programs: Traffic
) -> None:
    """With a peer more, the cluster would need three of its four from then on."""
    before = starts(forest)
    forest.home.settle(**GIVEN, provisioning={"readiness_timeout": 6})

    with cut_off_once_there(forest, "oak-node-5"), pytest.raises(NotReadyError):
        grow("oak")

    forest.home.settle(**GIVEN)
    assert is_whole(forest, 1, 2, 3)
    assert starts(forest) == before
    host = forest.lab["oak-node-5"]
    until("its machine is gone", lambda: not host.is_on and not host.disk.folder.exists())
    assert programs.gap < LONGEST


def test_it_grows_to_four_and_the_old_servers_just_go_on(forest: Stand, programs: Traffic) -> None:
    before = starts(forest)
    forest.home.enter()

    grown = grow("oak")

    assert grown.fresh == ("oak-node-6",)
    assert is_whole(forest, 1, 2, 3, 6)
    assert before.items() <= starts(forest).items()
    new = forest.host("oak-node-6")
    for old in forest.hosts[:3]:
        assert answering(new.namespace, old.address) == {22, 4222, 6222}
        assert answering(old.namespace, new.address) == {22, 4222, 6222}
    assert programs.gap < GAP


def test_a_disk_that_fills_up_makes_it_grow_to_five_by_itself_and_streams_move_there(
    forest: Stand, way: Way, programs: Traffic
) -> None:
    before, full = starts(forest), forest.host("oak-node-2")
    growth = {**UNMOVED, "threshold_storage": FULL - 5, "cooldown_minutes": 0, "rebalance": "leaders"}
    forest.home.settle(**GIVEN, growth=growth)
    full.fill_disk(FULL)

    with at_birth(forest.lab, "oak-node-7", act=lambda _: full.free_disk()):
        told = grow_check("oak")

    forest.home.settle(**GIVEN)
    assert told == {"oak": "grew"}
    assert is_whole(forest, 1, 2, 3, 6, 7)
    assert before.items() <= starts(forest).items()
    assert [name for name, nodes in copies(way).items() if "oak-node-7" in nodes]
    assert programs.gap < LONGEST


def test_the_node_that_leads_leaves_and_its_machine_is_gone(
    forest: Stand, way: Way, programs: Traffic
) -> None:
    before = starts(forest)
    victim = forest.lab[str(monitor(forest.hosts[0], "/jsz")["meta_cluster"]["leader"])]
    rest = [node.number for node in forest.forest.staying if node.name != victim.name]

    remove_node("oak", victim.name)

    assert is_whole(forest, *rest)
    assert starts(forest) == {name: run for name, run in before.items() if name != victim.name}
    assert not any(victim.name in nodes for nodes in copies(way).values())
    until("its machine is gone", lambda: not victim.is_on and not victim.disk.folder.exists())
    assert programs.gap < LONGEST


def test_nothing_that_was_acknowledged_was_lost(programs: Traffic) -> None:
    programs.stop()
    programs.check()

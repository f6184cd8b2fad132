"""A forest that grows and shrinks while programs use it from outside: nothing is lost, nobody is stopped.

One forest, and programs that use it all the time; the tests are its story, in their order.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from flows.grow import grow
from flows.grow_check import grow_check
from flows.remove import remove_node
from morpheus.cli.temporary import Temporary
from morpheus.errors import MachineError, NotReadyError, UnreachableError
from morpheus.forest import Status
from morpheus.machine import NATS, WORKLOAD, places
from morpheus.nats.listeners import CLIENT
from tests.flows.homes import UNMOVED
from tests.flows.traffic import Traffic, Way, copies
from tests.hetzner.zones.records import names as dns_names
from tests.hosts.forests.conftest import settings
from tests.hosts.forests.stands import SOON, Stand, monitor, standing
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


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings: clients are let in, a workload runs, new nodes are on Debian 13."""
    opened = {"dns": {"provider": "hetzner", "domain": DOMAIN}, "firewall": {"nats": ["::/0"]}}
    return {**opened, **settings("debian-13", tmp_path_factory.mktemp("growing"))}


@pytest.fixture(scope="module")
def forest(
    lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]
) -> Iterator[Stand]:
    """Three nodes on Debian 12."""
    home = tmp_path_factory.mktemp("growing") / "home"
    with standing(lab, home, 61, 3, {**given, "hetzner": {"image": "debian-12"}}) as stand:
        stand.home.settle(**given)
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
def going_on(forest: Stand, programs: Traffic) -> Iterator[None]:
    """No program fails meanwhile; flows act for the forest's planter."""
    forest.home.enter()
    programs.begin_anew()
    yield
    programs.fine()
    print(f"{programs.acknowledged} acknowledged; longest gap of this test {programs.gap:.2f} s")


def starts(stand: Stand) -> Mapping[str, str]:
    """What systemd calls this run of each server and of its workload; another one has another name."""
    units = [places.UNITS[NATS], places.UNITS[WORKLOAD]]
    show = ["systemctl", "show", "--value", "--property=InvocationID", *units]
    told = {host.name: host.run(show).stdout.strip() for host in stand.hosts}
    assert all(len(each.split()) == len(units) for each in told.values())  # they run
    return told


def coming(stand: Stand) -> str:
    """The name of the node that is added next."""
    (name,) = stand.forest.fresh_names(1)
    return name


def is_whole(stand: Stand, names: set[str]) -> bool:
    """Whether the nodes *names* are the forest, for whomever is asked about it."""
    stand.wait_formed()
    forest = stand.forest
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


def cut_off_once_there(stand: Stand) -> Callable[[Host], None]:
    """Lets nothing pass between a new machine and anybody, as soon as the others count its server."""
    others = stand.hosts

    def is_there(host: Host) -> bool:
        with contextlib.suppress(AssertionError):  # no server answers there yet
            looks = monitor(host, "/varz")["http_req_stats"].get("/healthz")  # whoever waits for it
            sizes = [monitor(each, "/jsz")["meta_cluster"]["cluster_size"] for each in others]
            return bool(looks) and max(sizes) > len(others)
        return False

    def cut(host: Host) -> None:
        until(f"{host.name} is there", lambda: is_there(host), timeout=SOON)
        host.unplug()

    return cut


def test_an_expansion_whose_server_cannot_start_is_taken_back(forest: Stand) -> None:
    before, claimed = starts(forest), forest.forest.last_expansion

    with taken(forest, coming(forest)), pytest.raises(MachineError, match="took the chosen ports"):
        grow("oak")

    assert is_whole(forest, {*before})
    assert starts(forest) == before
    assert forest.forest.last_expansion != claimed


def test_an_expansion_whose_node_is_cut_off_once_it_is_there_is_taken_back(
    forest: Stand, given: dict[str, Any], programs: Traffic
) -> None:
    """With a peer more, the cluster would need three of its four from then on."""
    before, name = starts(forest), coming(forest)
    forest.home.settle(**given, provisioning={"readiness_timeout": 6})

    cut = cut_off_once_there(forest)
    with at_birth(forest.lab, name, act=cut), pytest.raises((NotReadyError, UnreachableError)):
        grow("oak")

    forest.home.settle(**given)
    assert is_whole(forest, {*before})
    assert starts(forest) == before
    host = forest.lab[name]
    until("its machine is gone", lambda: not host.is_on and not host.disk.folder.exists())
    assert programs.gap < LONGEST


def test_it_grows_to_four_and_the_old_servers_just_go_on(forest: Stand, programs: Traffic) -> None:
    before, name = starts(forest), coming(forest)

    grown = grow("oak")

    assert grown.fresh == (name,)
    assert is_whole(forest, {*before, name})
    assert before.items() <= starts(forest).items()
    new = forest.host(name)
    for old in map(forest.host, before):
        assert answering(new.namespace, old.address) == {22, 4222, 6222}
        assert answering(old.namespace, new.address) == {22, 4222, 6222}
    assert programs.gap < GAP


def test_a_disk_that_fills_up_makes_it_grow_by_itself_and_streams_move_there(
    forest: Stand, given: dict[str, Any], way: Way, programs: Traffic
) -> None:
    before, name, full = starts(forest), coming(forest), forest.host("oak-node-2")
    growth = {**UNMOVED, "threshold_storage": FULL - 5, "cooldown_minutes": 0, "rebalance": "leaders"}
    forest.home.settle(**given, growth=growth)
    full.fill_disk(FULL)

    with at_birth(forest.lab, name, act=lambda _: full.free_disk()):
        told = grow_check("oak")

    forest.home.settle(**given)
    assert told == {"oak": "grew"}
    assert is_whole(forest, {*before, name})
    assert before.items() <= starts(forest).items()
    assert [stream for stream, nodes in copies(way).items() if name in nodes]
    assert programs.gap < LONGEST


def test_the_node_that_leads_leaves_and_its_machine_is_gone(
    forest: Stand, way: Way, programs: Traffic
) -> None:
    before = starts(forest)
    victim = forest.host(monitor(forest.hosts[0], "/jsz")["meta_cluster"]["leader"])

    remove_node("oak", victim.name)

    assert is_whole(forest, {*before} - {victim.name})
    assert starts(forest) == {name: run for name, run in before.items() if name != victim.name}
    assert not [stream for stream, nodes in copies(way).items() if victim.name in nodes]
    until("its machine is gone", lambda: not victim.is_on and not victim.disk.folder.exists())
    assert programs.gap < LONGEST


def test_nothing_that_was_acknowledged_was_lost(programs: Traffic) -> None:
    programs.stop()
    programs.check()

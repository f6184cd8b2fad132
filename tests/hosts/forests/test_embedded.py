"""Embedded mode on real hosts: the workload brings its NATS server and finds its peers by the registry."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from flows.plant import plant
from morpheus.errors import RefusedError
from morpheus.forest import Status
from morpheus.machine import places
from morpheus.registry.part import part_of
from tests import reader
from tests.flows.homes import Home
from tests.hosts.forests.brought import built, embedded
from tests.hosts.forests.stands import SOON, Stand, monitor, on, standing
from tests.lab import Host, Lab
from tests.nats.grove import wait_for
from tests.nats.listening import listening
from tests.simulator import Simulator

pytestmark = pytest.mark.root

SCRIPT = "#!/bin/sh\nset -eu\ntest -s /etc/morpheus/node-info.json\necho ran >> /root/runs\n"


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("embedded") / "forest")


@pytest.fixture(scope="module")
def stand(lab: Lab, prefect: None, workload: Path) -> Iterator[Stand]:
    folder = workload.parent
    (folder / "bootstrap.sh").write_text(SCRIPT)
    settings = embedded(workload, bootstrap_script=str(folder / "bootstrap.sh"))
    with standing(lab, folder / "home", 51, 3, {"integration": settings}) as stand:
        yield stand


def file(host: Host, path: str) -> str:
    done = host.run(["cat", path])
    assert done.returncode == 0, done.stderr
    return done.stdout


def unit(host: Host, prop: str) -> str:
    return host.run(["systemctl", "show", "--value", "-p", prop, places.UNITS["workload"]]).stdout.strip()


def peers(host: Host) -> set[str]:
    return {route["remote_name"] for route in monitor(host, "/routez")["routes"]}


def test_the_servers_of_the_workload_are_one_cluster(stand: Stand) -> None:
    names = {node.name for node in stand.forest.staying}

    assert stand.forest.status == Status.ACTIVE
    stand.wait_formed()
    assert stand.counted() == names
    for host in stand.hosts:
        assert peers(host) == names - {host.name}
        assert host.run(["systemctl", "is-enabled", "nimsforest.service"]).stdout.strip() == "enabled"
        assert host.run(["test", "-e", places.NATS_SERVER]).returncode == 1


def test_every_node_has_its_forests_part_of_the_registry(stand: Stand) -> None:
    forest, registry = stand.forest, stand.home.text
    for host in stand.hosts:
        known = file(host, places.KNOWN)
        assert known == part_of(forest)
        assert reader.routes(known, "oak", str(host.address)) == reader.routes(
            registry, "oak", str(host.address)
        )
        assert len(reader.routes(known, "oak", str(host.address))) == 2
        assert host.run(["stat", "-c", "%a %U", places.KNOWN]).stdout.strip() == "644 root"


def test_every_server_knew_all_others_at_its_first_start(stand: Stand) -> None:
    addresses = {str(host.address) for host in stand.hosts}
    for host in stand.hosts:
        told = file(host, f"{places.DATA}/nats.conf")
        assert all(f"[{ip}]:6222" in told for ip in addresses)
        assert unit(host, "NRestarts") == "0"


def test_the_script_ran_once_on_each_machine(stand: Stand) -> None:
    stand.plant()

    assert [file(host, "/root/runs") for host in stand.hosts] == ["ran\n"] * 3


def test_one_living_peer_is_enough(stand: Stand) -> None:
    first, second, third = stand.hosts
    document = json.loads(file(third, places.KNOWN))
    document["nodes"]["oak"] = [
        {"id": "oak-node-1", "ip": str(first.address)},
        {"id": "oak-node-3", "ip": str(third.address)},
        {"id": "oak-node-9", "ip": "2001:db8:ffff::1"},
    ]
    third.run(["tee", places.KNOWN], text=json.dumps(document))

    third.run(["systemctl", "restart", places.UNITS["workload"]])

    wait_for(lambda: _peers_or_none(third), lambda seen: seen == {"oak-node-1", "oak-node-2"}, SOON)
    wait_for(lambda: heard(second, third), bool, SOON)
    stand.plant()  # which delivers the whole file again
    assert file(third, places.KNOWN) == part_of(stand.forest)


def _peers_or_none(host: Host) -> set[str] | None:
    try:
        return peers(host)
    except AssertionError:
        return None


def heard(here: Host, there: Host) -> bool:
    """Whether what is said *there* is heard *here*."""

    async def speak(client: Client) -> None:
        await client.publish("word", b"hello")
        await client.flush()

    async def listen(client: Client) -> bool:
        inbox = await client.subscribe("word")
        await listening(client)
        await asyncio.to_thread(on, there, speak)
        try:
            return (await inbox.next_msg(timeout=0.3)).data == b"hello"
        except TimeoutError:
            return False

    return on(here, listen)


def test_another_binary_is_started_one_node_after_another_and_what_it_hides_is_unknown(
    stand: Stand, tmp_path: Path
) -> None:
    before = {host.name: unit(host, "MainPID") for host in stand.hosts}
    other = built(tmp_path / "forest", "--no-monitoring")
    settings = embedded(other)
    stand.home.settle(integration=settings)

    stand.plant()

    starts = sorted(int(unit(host, "ExecMainStartTimestampMonotonic")) for host in stand.hosts)
    assert all(unit(host, "MainPID") != before[host.name] for host in stand.hosts)
    assert len(set(starts)) == 3
    status = stand.status
    assert (status.formation.formed, status.formation.known) == (False, False)
    assert [(each.cpu, each.memory) for each in status.nodes] == [(None, None)] * 3
    assert all(each.state.startswith("unknown") for each in status.nodes)
    assert all(each.reading.server == each.node.name for each in status.nodes)


def test_a_forest_keeps_its_mode(stand: Stand) -> None:
    stand.home.settle()

    with pytest.raises(RefusedError, match=r"brings its own NATS server, and that cannot be changed"):
        stand.plant()


def test_a_machine_on_which_the_script_fails_is_replaced_once(
    lab: Lab, home: Home, simulator: Simulator, tmp_path: Path
) -> None:
    script = tmp_path / "bootstrap.sh"
    script.write_text("#!/bin/sh\n! grep -q oak-node-1 /etc/morpheus/node-info.json\n")
    given: dict[str, Any] = {"integration": {"bootstrap_script": str(script)}}
    home.settle(**given)

    planted = plant("oak", nodes=1)

    assert [node.name for node in planted.forest.staying] == ["oak-node-2"]
    assert set(simulator.servers) == {"oak-node-2"}
    assert lab["oak-node-2"].run(["test", "-e", places.BOOTSTRAPPED]).returncode == 0

"""Healing on this machine, with the servers, the files and the messages that are really there."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.js.errors
import psutil
import pytest
from nats.js.api import PubAck, StreamConfig
from nats.js.client import JetStreamContext
from prefect import task

from flows.plant import plant
from flows.teardown import teardown
from morpheus import health, site, watch
from morpheus.errors import MachineError, RefusedError
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, WORKLOAD, processes
from morpheus.machine.limits import MIB
from morpheus.nats import admin
from morpheus.nats.config import client_url
from morpheus.wait import wait_until
from tests.folders import standing

pytestmark = pytest.mark.long

MESSAGES = 300
HALTED = 10.0  # seconds; a request is given up after eight
TRIES = 1000  # each is a question over the loopback
WORKLOAD_TEXT = """#!{python}
import asyncio, os, nats, nats.errors

async def main():
    client = await nats.connect(os.environ["NATS_URL"])
    me = "work" + os.environ["NATS_URL"].rpartition(":")[2]
    stream, made = client.jetstream(timeout=2), None
    while True:
        # In the first moments of a cluster or a stream, what is asked may be refused or get no answer.
        try:
            made = made or await stream.add_stream(name=me, subjects=[me])
            await stream.publish(me, b"leaf")
        except nats.errors.Error as error:
            print(type(error).__name__, error, flush=True)
        await asyncio.sleep(0.2)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Here:
    """The folder of this user's data, in which forests stand."""

    data: Path

    def folder(self, node: Node) -> Path:
        return self.data / "forests" / node.name.rpartition("-node-")[0] / node.name

    def forest(self, name: str) -> Forest:
        forest = site.local_registry().find(name)
        assert forest is not None
        return forest

    def process(self, node: Node, program: str = NATS) -> psutil.Process:
        process = processes.find(self.folder(node), program)
        assert process is not None
        return process

    def last_words(self, node: Node) -> str:
        """The last line that the node's workload said."""
        lines = (self.folder(node) / f"{WORKLOAD}.out").read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def pids(self, forest: Forest) -> Mapping[str, int]:
        return {node.name: self.process(node).pid for node in forest.staying}

    def kill(self, *nodes: Node) -> None:
        """As ``kill -9`` does."""
        servers = [self.process(node) for node in nodes]
        for server in servers:
            server.kill()
        _, alive = psutil.wait_procs(servers, timeout=10)
        assert alive == []

    def wipe(self, *nodes: Node) -> None:
        """Lose the machine: its server and all of its files."""
        self.kill(*nodes)
        for node in nodes:
            shutil.rmtree(self.folder(node))

    def contents(self, node: Node) -> Mapping[str, str]:
        """The sum of every file of the node."""
        there = standing(self.folder(node))
        return {str(path): hashlib.sha256(content).hexdigest() for path, content in there.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    yield Here(tmp_path / "data")
    for folder in tmp_path.glob("data/forests/*/*-node-*"):
        for program in (WORKLOAD, NATS):
            processes.stop(folder, program)


def publish(forest: Forest, streams: Mapping[str, int]) -> Mapping[str, str]:
    """Make *streams* (name -> copies) and put messages into each; which server leads each, by stream."""

    async def all_of_them() -> Mapping[str, str]:
        client = await nats.connect([client_url(node) for node in forest.staying])
        stream = client.jetstream(timeout=10)
        leaders = {}
        for name, copies in streams.items():
            await stream.add_stream(StreamConfig(name=name, subjects=[name], num_replicas=copies))
            for k in range(MESSAGES if copies > 1 else 1):
                assert (await acknowledged(stream, name, f"{name}-{k}")).seq == k + 1
            cluster = (await stream.stream_info(name)).cluster
            leaders[name] = (cluster.leader if cluster else None) or forest.staying[0].name
        await client.close()
        return leaders

    return asyncio.run(all_of_them())


async def acknowledged(stream: JetStreamContext, name: str, message: str) -> PubAck:
    """Publish *message* until it is acknowledged; other servers learn of a new stream a moment later."""
    for _ in range(TRIES):
        with contextlib.suppress(nats.js.errors.NoStreamResponseError):
            return await stream.publish(name, b"leaf", headers={"Nats-Msg-Id": message})
    raise AssertionError(f"{name} never answered")


def messages(forest: Forest, name: str) -> Sequence[str]:
    """The ids of all messages of the stream *name*, in order, as its leader has them."""

    async def read() -> list[str]:
        client = await nats.connect([client_url(node) for node in forest.staying])
        stream = client.jetstream(timeout=10)
        count = (await stream.stream_info(name)).state.messages
        got = [await stream.get_msg(name, seq) for seq in range(1, count + 1)]
        await client.close()
        return [(each.headers or {})["Nats-Msg-Id"] for each in got]

    return asyncio.run(read())


ALL = [f"orders-{k}" for k in range(MESSAGES)]


def test_a_lost_machine_is_replaced_and_no_acknowledged_message_is_lost(here: Here) -> None:
    forest = plant("oak", nodes=3, cloud="local").forest
    leaders = publish(forest, {"orders": 3, **{f"lone{k}": 1 for k in range(4)}})
    victim = forest.node(leaders["lone0"])
    gone = {name for name, leader in leaders.items() if leader == victim.name and name != "orders"}
    before = here.pids(forest)
    here.wipe(victim)

    healed = plant("oak", cloud="local")

    names = {node.name for node in healed.forest.nodes}
    assert names == {*before} - {victim.name} | {"oak-node-4"}
    assert {*healed.lost_streams} == gone
    assert messages(healed.forest, "orders") == ALL
    after = here.pids(healed.forest)
    assert {name: after[name] for name in before if name != victim.name}.items() <= before.items()
    assert plant("oak", cloud="local").lost_streams == ()


def copies(forest: Forest, stream: str) -> set[str]:
    """The nodes on which the stream stands."""

    async def ask() -> set[str]:
        client = await nats.connect([client_url(node) for node in forest.staying])
        cluster = (await client.jetstream(timeout=10).stream_info(stream)).cluster
        await client.close()
        assert cluster
        named = (cluster.leader, *(each.name for each in cluster.replicas or []))
        return {name for name in named if name}

    return asyncio.run(ask())


def test_lost_streams_are_named_by_the_run_that_completes_an_interrupted_heal(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    forest = plant("oak", nodes=3, cloud="local").forest
    victim = forest.node(publish(forest, {"lone": 1})["lone"])
    here.wipe(victim)
    monkeypatch.setattr("flows._peers.delete_server", broken)  # after the peer was removed
    with pytest.raises(MachineError, match="on purpose"):
        plant("oak", cloud="local")
    monkeypatch.undo()
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(here.data))
    assert here.forest("oak").lost_streams == ("lone",)

    assert plant("oak", cloud="local").lost_streams == ("lone",)

    assert here.forest("oak").lost_streams == ()


@task
def broken(*_: object) -> None:
    raise MachineError("broken on purpose")


def test_nodes_that_still_run_on_deleted_files_are_seen_and_not_stopped_while_they_may_be_needed(
    here: Here,
) -> None:
    forest = plant("oak", nodes=5, cloud="local").forest
    publish(forest, {"orders": 3})
    victims = [forest.node(name) for name in sorted(copies(forest, "orders"))[:2]]
    before = here.pids(forest)
    for node in victims:
        shutil.rmtree(here.folder(node) / "store")

    seen = health.examine(here.forest("oak"), site.local_cloud(), "")
    assert not seen.formation.formed
    assert {each.node.name for each in seen.nodes if each.state == "without its store"} == {
        node.name for node in victims
    }
    with pytest.raises(RefusedError, match="orders have a copy left, but no majority"):
        plant("oak", cloud="local")

    assert here.pids(forest) == before
    assert here.forest("oak").nodes == forest.nodes


def test_of_two_copies_each_is_enough(here: Here) -> None:
    forest = plant("oak", nodes=3, cloud="local").forest
    publish(forest, {"orders": 2})
    here.wipe(forest.node(min(copies(forest, "orders"))))

    healed = plant("oak", cloud="local")

    assert healed.lost_streams == ()
    assert messages(healed.forest, "orders") == ALL


def test_two_lost_machines_of_five_are_replaced_where_members_change_slowly(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says that the first has left: a survivor, whose vote that needs, is halted meanwhile."""
    forest = plant("oak", nodes=5, cloud="local").forest
    survivors, victims = forest.staying[:3], forest.staying[3:]
    publish(forest, {"orders": 5})
    here.wipe(*victims)
    removed = admin.remove_peer
    asked: list[str] = []

    def halt() -> None:
        leader = watch.judged(survivors, watch.read_nodes(survivors, site.local_cloud())).leader
        halted = here.process(next(node for node in survivors if node.name != leader))
        halted.suspend()
        threading.Timer(HALTED, halted.resume).start()

    async def remove_peer(urls: Sequence[str], seed: str, peer: str) -> None:
        if not asked:
            await asyncio.to_thread(halt)
        asked.append(peer)
        await removed(urls, seed, peer)

    monkeypatch.setattr(admin, "remove_peer", remove_peer)

    healed = plant("oak", cloud="local")

    assert len(asked) > len(victims)
    assert [node.name for node in healed.forest.nodes] == [f"oak-node-{k}" for k in (1, 2, 3, 6, 7)]
    assert messages(healed.forest, "orders") == ALL


def test_two_lost_machines_of_three_are_refused_and_the_survivor_is_not_touched(here: Here) -> None:
    forest = plant("oak", nodes=3, cloud="local").forest
    publish(forest, {"orders": 3})
    survivor, *victims = forest.staying
    here.wipe(*victims)
    server, recorded = here.process(survivor), site.local_registry().read().bare()
    server.suspend()  # what it writes by itself, looking for a majority, is not what is asked here
    files = here.contents(survivor)

    with pytest.raises(RefusedError, match=f"(?s)without a majority.*{survivor.name} still hold"):
        plant("oak", cloud="local")

    assert here.contents(survivor) == files
    assert here.process(survivor) == server
    assert site.local_registry().read().bare() == recorded
    assert here.forest("oak").lease is None
    assert [folder.name for folder in (here.data / "forests" / "oak").iterdir()] == [survivor.name]
    server.resume()


def test_killed_servers_come_back_under_their_names_with_their_data(here: Here) -> None:
    forest = plant("oak", nodes=3, cloud="local").forest
    publish(forest, {"orders": 3, "lone": 1})

    here.kill(forest.staying[1])
    assert plant("oak", cloud="local").forest.nodes == forest.nodes
    here.kill(*forest.staying)
    again = plant("oak", cloud="local")

    assert again.forest.nodes == forest.nodes
    assert again.lost_streams == ()
    assert messages(again.forest, "orders") == ALL
    assert messages(again.forest, "lone") == ["lone-0"]


def test_the_only_node_is_restored_after_a_kill_and_refused_after_a_loss(here: Here) -> None:
    forest = plant("oak", nodes=1, cloud="local").forest
    publish(forest, {"lone": 1})
    here.kill(*forest.staying)
    assert messages(plant("oak", cloud="local").forest, "lone") == ["lone-0"]

    here.wipe(*forest.staying)

    with pytest.raises(RefusedError, match="morpheus teardown oak"):
        plant("oak", cloud="local")
    assert not (here.data / "forests" / "oak" / "oak-node-1").exists()
    assert here.forest("oak").nodes == forest.nodes


def test_a_workload_that_knows_its_url_alone_uses_every_node_and_ends_with_the_forest(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "workload"
    program.write_text(WORKLOAD_TEXT.format(python=sys.executable))
    program.chmod(0o755)
    settings = tmp_path / "morpheus.yaml"
    wanted = f"nimsforest_install: true\n  nimsforest_download_url: {program}"
    settings.write_text(f"integration:\n  {wanted}\n")
    monkeypatch.setenv("MORPHEUS_CONFIG", str(settings))
    monkeypatch.setenv("A_SECRET_OF_THE_OPERATOR", "hidden")

    forest = plant("oak", nodes=3, cloud="local").forest

    workloads = [here.process(node, WORKLOAD) for node in forest.staying]
    assert all("A_SECRET_OF_THE_OPERATOR" not in each.environ() for each in workloads)
    streams = [f"work{node.ports.client}" for node in forest.staying]
    wait_until(
        "a message of each workload",
        lambda: counts(forest),
        lambda seen: all(seen.get(each) for each in streams),
        lambda seen: f"{seen}; {' | '.join(here.last_words(node) for node in forest.staying)}",
        timeout=30,
    )
    servers = [here.process(node) for node in forest.staying]

    teardown("oak")

    assert [each for each in (*workloads, *servers) if processes.is_running(each)] == []
    assert [port for node in forest.staying for port in ports(node) if listens(port)] == []
    assert not (here.data / "forests" / "oak").exists()
    assert not (here.data / "access" / "oak").exists()
    assert site.local_registry().find("oak") is None


def counts(forest: Forest) -> Mapping[str, int]:
    """How many messages each stream holds."""

    async def ask() -> Mapping[str, int]:
        client = await nats.connect([client_url(node) for node in forest.staying])
        found = await client.jetstream(timeout=10).streams_info()
        await client.close()
        return {each.config.name or "": each.state.messages for each in found}

    return asyncio.run(ask())


def ports(node: Node) -> tuple[int, int, int]:
    return (node.ports.client, node.ports.cluster, node.ports.monitor)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_jetstream_obeys_the_settings_of_its_nodes_birth(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "morpheus.yaml"
    monkeypatch.setenv("MORPHEUS_CONFIG", str(settings))
    for wanted in ("{jetstream_memory: 32MB, jetstream_file: 96MB}", "{}"):
        settings.write_text(f"integration: {wanted}\n")
        (node,) = plant("oak", nodes=1, cloud="local").forest.nodes

        with urllib.request.urlopen(f"http://127.0.0.1:{node.ports.monitor}/jsz") as answer:
            config = json.load(answer)["config"]
        assert (config["max_memory"], config["max_storage"]) == (32 * MIB, 96 * MIB)

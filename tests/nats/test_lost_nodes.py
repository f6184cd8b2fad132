"""Nodes that are lost: they are seen at once, what goes with them is named, others take their place."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import nats.errors
import psutil
import pytest
from nats.aio.client import Client

from morpheus.errors import UnreachableError
from morpheus.machine import NATS
from morpheus.nats import admin, streams
from tests.nats.conftest import Planter
from tests.nats.grove import BOUND, Grove, wait_for

pytestmark = pytest.mark.long

MESSAGES = 50


@dataclass(frozen=True)
class Wreck:
    """Five nodes, all of which went down at once; two lost their stores, the others are up again.

    ``peers`` says where the copies of each stream stood.
    """

    grove: Grove
    lost: tuple[str, ...]
    left: tuple[str, ...]
    peers: dict[str, set[str]]

    def named(self, replicas: int, lost: int) -> list[str]:
        """The streams with so many copies of which so many were lost."""
        return sorted(
            name
            for name, where in self.peers.items()
            if len(where) == replicas and len(where & set(self.lost)) == lost
        )


@pytest.fixture(scope="module")
def wreck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wreck]:
    grove = Grove(tmp_path_factory.mktemp("wreck"), 1, 2, 3, 4, 5)
    try:
        grove.start()
        grove.wait_formed()
        peers = asyncio.run(_fill(grove))
        [home] = peers["ONE_0"]
        lost = (home, min(_shared(peers)[0] - {home}))
        left = tuple(name for name in grove.names if name not in lost)
        grove.kill(*grove.names)
        grove.wipe(*lost)
        grove.start(left)
        grove.wait_leader(left)
        yield Wreck(grove, lost, left, peers)
    finally:
        grove.close()


async def _fill(grove: Grove) -> dict[str, set[str]]:
    """Make streams of one copy and of three, one of which shares a node with the first; where they stand."""
    peers: dict[str, set[str]] = {}
    wanted = [*((f"ONE_{k}", 1) for k in range(6)), *((f"THREE_{k}", 3) for k in range(50))]
    async with admin.connected(grove.urls()) as client:
        for name, replicas in wanted:
            await _create(client, name, replicas)
            peers[name] = await _settled(client, name, replicas)
            for number in range(MESSAGES):
                await _publish(client, f"test.{name}", number)
            if name >= "THREE_5" and _shared(peers):
                break
    return peers


def _shared(peers: dict[str, set[str]]) -> list[set[str]]:
    """Where the streams of three copies stand that share a node with the first stream of one."""
    return [where for where in peers.values() if len(where) > 1 and peers["ONE_0"] < where]


async def _create(client: Client, name: str, replicas: int) -> None:
    config = {"name": name, "subjects": [f"test.{name}"], "num_replicas": replicas, "storage": "file"}
    deadline = time.monotonic() + BOUND
    while True:
        try:
            await admin.api(client, f"$JS.API.STREAM.CREATE.{name}", config, timeout=5)
        except (admin.ApiError, UnreachableError):  # right after forming it may fail
            assert time.monotonic() < deadline
        else:
            return


async def _publish(client: Client, subject: str, number: int) -> None:
    """Publish until it is acknowledged; the id keeps it from being stored twice."""
    deadline = time.monotonic() + BOUND
    while True:
        try:
            await client.jetstream().publish(subject, b"kept", headers={"Nats-Msg-Id": f"{subject} {number}"})
        except (nats.errors.Error, TimeoutError):  # a new leader may not be known everywhere yet
            assert time.monotonic() < deadline
        else:
            return


async def _settled(client: Client, name: str, replicas: int) -> set[str]:
    """Where the copies of the stream stand, once all of them are current."""
    deadline = time.monotonic() + BOUND
    while True:
        cluster = (await admin.api(client, f"$JS.API.STREAM.INFO.{name}", timeout=5))["cluster"]
        current = {each["name"] for each in cluster.get("replicas") or [] if each.get("current")}
        if cluster.get("leader") and len(current) == replicas - 1:
            return {cluster["leader"], *current}
        assert time.monotonic() < deadline


def test_a_killed_follower_is_seen_within_seconds(plant: Planter) -> None:
    grove = plant(1, 2, 3)
    grove.start()
    leader = grove.wait_formed().leader
    dead = next(name for name in grove.names if name != leader)

    grove.kill(dead)

    verdict = wait_for(grove.verdict, lambda verdict: not verdict.formed, timeout=30)
    assert verdict.states[dead].startswith("unreachable")


def test_a_killed_leader_is_seen_within_seconds_though_the_others_name_it(plant: Planter) -> None:
    grove = plant(1, 2, 3)
    grove.start()
    dead = grove.wait_formed().leader

    grove.kill(dead)

    verdict = wait_for(grove.verdict, lambda verdict: not verdict.formed, timeout=30)
    assert verdict.states[dead].startswith("unreachable")
    assert verdict.leader != dead


def test_a_killed_node_that_keeps_its_store_comes_back(plant: Planter) -> None:
    grove = plant(1, 2, 3)
    grove.start()
    grove.wait_formed()

    grove.kill(grove.names[0])
    grove.start(grove.names[:1])

    assert grove.wait_formed().current == 3


def test_what_would_be_lost_is_named_before_anything_is_removed(wreck: Wreck) -> None:
    access = wreck.grove.access

    found = asyncio.run(
        streams.at_risk(wreck.grove.urls(wreck.left), access.app_seed, access.system_seed, wreck.left)
    )

    assert list(found.lost) == wreck.named(replicas=1, lost=1) != []
    assert list(found.weakened) == wreck.named(replicas=3, lost=2) != []


def test_nothing_is_at_risk_while_everybody_is_there(cluster: Grove) -> None:
    access = cluster.access

    found = asyncio.run(streams.at_risk(cluster.urls(), access.app_seed, access.system_seed, cluster.names))

    assert found == streams.AtRisk()


def test_who_does_not_answer_makes_the_risk_unknown(wreck: Wreck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LIST_TIMEOUT", 0.5)
    access, asked = wreck.grove.access, wreck.grove.names

    with pytest.raises(UnreachableError, match="did not tell"):
        asyncio.run(streams.at_risk(wreck.grove.urls(wreck.left), access.app_seed, access.system_seed, asked))


def test_streams_of_one_copy_on_a_lost_node_are_missing(wreck: Wreck) -> None:
    found = asyncio.run(streams.streams(wreck.grove.urls(wreck.left), wreck.grove.access.app_seed))

    assert set(wreck.named(replicas=1, lost=1)) <= set(found.missing)


def test_a_cluster_that_changes_its_members_is_to_be_asked_again(plant: Planter) -> None:
    """It makes one such change at a time, and refuses the next until the first has landed."""
    grove = plant(1, 2, 3, 4, 5)
    grove.start()
    grove.wait_formed()
    left, lost = grove.names[:3], grove.names[3:]
    grove.kill(*lost)
    leader = grove.wait_leader(left).leader
    halted, *rest = sorted(left, key=lambda name: name == leader)
    server = psutil.Process(grove.machine(halted).pid(NATS))

    async def both() -> tuple[BaseException | None, BaseException | None]:
        asked = [
            asyncio.create_task(admin.remove_peer(grove.urls(rest), grove.access.system_seed, name))
            for name in lost
        ]
        (refused,), (landing,) = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        server.resume()
        await asyncio.wait([landing])
        return refused.exception(), landing.exception()

    server.suspend()  # no change lands without its vote
    refused, landed = asyncio.run(both())

    assert isinstance(refused, UnreachableError)
    assert "member change is in progress" in str(refused)
    assert landed is None


def test_lost_nodes_are_replaced_and_streams_that_were_not_at_risk_are_kept(wreck: Wreck) -> None:
    grove = wreck.grove
    for name in wreck.lost:
        asyncio.run(admin.remove_peer(grove.urls(wreck.left), grove.access.system_seed, name))
    grove.forget(*wreck.lost)
    fresh = grove.add(6, 7)
    grove.configure(wreck.left)
    grove.start(fresh)

    assert grove.wait_formed().current == 5
    gone = wreck.named(replicas=1, lost=1)
    weakened = wreck.named(replicas=3, lost=2)  # the copy that is left may lack the last messages
    kept = dict.fromkeys({*wreck.peers} - {*gone, *weakened}, MESSAGES)
    found = wait_for(lambda: _messages(grove), lambda found: kept.items() <= found.items())
    assert not any(found.get(name) for name in gone)  # NATS may make them anew, and silently empty


def _messages(grove: Grove) -> dict[str, int]:
    """How many messages each stream that answers holds."""

    async def count() -> dict[str, int]:
        async with admin.connected(grove.urls()) as client:
            page = await admin.api(client, "$JS.API.STREAM.LIST", {"offset": 0}, timeout=10)
        return {each["config"]["name"]: each["state"]["messages"] for each in page.get("streams") or []}

    return asyncio.run(count())

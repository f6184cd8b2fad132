"""Growing: new nodes come, old ones go on, and programs that use the forest notice next to nothing."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.js.api import Placement, StreamConfig
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from flows.grow import grow, sweep
from flows.plant import plant
from flows.remove import remove_node
from morpheus.cloud import Server
from morpheus.errors import MachineError, NotReadyError, RefusedError
from morpheus.forest import Forest, Status
from morpheus.nats.config import client_url
from morpheus.watch import judged, read_nodes
from tests.fakes import utc_now
from tests.flows.conftest import Hilly
from tests.flows.traffic import connection, copies, insist, traffic
from tests.nats.grove import wait_for

GAP = 3.0  # seconds in which a publisher may get no acknowledgement while nodes are added

LONGEST = 10.0  # the same where streams elect leaders anew, which takes them up to nine
SLOWLY = 0.05  # seconds between two messages where it takes minutes
STEPS = [  # (effect, how many of that kind pass before), in their order; {} is the new node
    ("create {}", 0),
    ("created {}", 0),
    ("record *", 1),  # the address; the first is the claim
    ("put oak-node-1 cluster.conf", 0),
    ("put oak-node-3 cluster.conf", 0),
    ("put {} nats.conf", 0),
    ("put {} cluster.conf", 0),
    ("start {} nats", 0),
    ("started {} nats", 0),
    ("reach {} 8000", 0),
    ("reach {} 4000", 0),
    ("reach oak-node-3 4000", 1),
    ("record *", 2),  # that it is active
]


def broken() -> MachineError:
    return MachineError("broken on purpose")


def put_on(forest: Forest, *nodes: str) -> None:
    """Make a stream on each of these nodes, found by its tag, and store a message in it."""

    async def make() -> None:
        async with connection([client_url(node) for node in forest.staying]) as client:
            stream = client.jetstream(timeout=5)
            for node in nodes:
                config = StreamConfig(
                    name=f"at-{node}", subjects=[f"at-{node}"], placement=Placement(tags=[node])
                )
                await insist(lambda config=config: stream.add_stream(config))  # type: ignore[misc]
                await insist(lambda node=node: stream.publish(f"at-{node}", b"leaf"))  # type: ignore[misc]

    asyncio.run(make())


def fill(forest: Forest, node: str, made: list[str]) -> None:
    """Make streams with a message each on *node*, which are not bound to it; note them in *made*."""

    async def make() -> None:
        async with connection([client_url(each) for each in forest.staying]) as client:
            stream = client.jetstream(timeout=5)
            for name in (f"came-to-{node}-{k}" for k in range(3)):
                here = StreamConfig(name=name, subjects=[name], placement=Placement(tags=[node]))
                await insist(lambda here=here: stream.add_stream(here))  # type: ignore[misc]
                await insist(lambda name=name: stream.publish(name, b"leaf"))  # type: ignore[misc]
                free = replace(here, placement=None)
                info = await insist(lambda free=free: stream.update_stream(free))  # type: ignore[misc]
                assert info.config.placement is None
                assert info.cluster
                assert info.cluster.leader == node
                made.append(name)

    asyncio.run(make())


def running(land: Hilly) -> Mapping[str, int]:
    return {name: pid for name, pid in land.hills.pids("oak").items() if pid}


def is_whole(land: Hilly, nodes: int) -> bool:
    """Whether the forest stands with so many nodes, as its record says it and its leader."""
    forest = land.forest("oak")
    wait_for(lambda: judged(forest.staying, read_nodes(forest.staying, land.hills)), lambda seen: seen.formed)
    assert forest.nodes == forest.staying
    assert {node.status for node in forest.nodes} == {Status.ACTIVE}
    assert forest.status == Status.ACTIVE
    assert forest.lease is None
    return len(forest.nodes) == len(running(land)) == nodes


def test_a_forest_grows_twice_under_load_and_loses_nothing(land: Hilly) -> None:
    plant("oak", nodes=3)
    first, began = running(land), datetime.now(UTC)

    with traffic(land.forest("oak")) as programs:
        four = grow("oak")
        assert is_whole(land, 4)
        five = grow("oak", nodes=5)

    assert is_whole(land, 5)
    assert (four.fresh, five.fresh) == (("oak-node-4",), ("oak-node-5",))
    assert (four.forest.size, five.forest.size) == ("custom", "large")
    assert first.items() <= running(land).items()
    forest = land.forest("oak")
    assert five.forest.staying == forest.staying
    assert four.forest.last_expansion
    assert forest.last_expansion
    assert began <= four.forest.last_expansion < forest.last_expansion <= datetime.now(UTC)
    put_on(forest, "oak-node-4", "oak-node-5")
    stands = copies(forest)
    assert {node: stands[f"at-{node}"] for node in ("oak-node-4", "oak-node-5")} == {
        node: {node} for node in ("oak-node-4", "oak-node-5")
    }
    assert programs.gap < GAP
    assert not [name for name in stands if name.startswith("MORPHEUS_PROBE_")]


@pytest.mark.long
def test_streams_and_leaders_are_shared_out_on_request_under_load_and_nothing_is_lost(land: Hilly) -> None:
    forest = plant("oak", nodes=3).forest

    with traffic(forest, lone=9, pause=SLOWLY) as programs:
        still = copies(forest)
        four = grow("oak")
        assert {name: copies(forest)[name] for name in still} == still  # nobody asked
        five = grow("oak", rebalance="leaders")

    assert (four.fresh, five.fresh) == (("oak-node-4",), ("oak-node-5",))
    assert is_whole(land, 5)
    stands = copies(forest)
    on = {node: sum(node in each for each in stands.values()) for node in running(land)}
    assert sum(on.values()) == sum(map(len, still.values()))
    assert on["oak-node-5"] > 0, on
    assert programs.gap < LONGEST
    assert "rebalanced" in five.phases


def test_the_cooldown_counts_by_the_clock_of_the_store(land: Hilly) -> None:
    """Which is ten minutes behind this computer's: so nobody's clock shortens it."""
    plant("oak", nodes=3)
    behind = utc_now() - timedelta(minutes=10)
    land.store.clock = lambda: behind
    claimed = grow("oak", auto=True).forest.last_expansion
    assert claimed == behind.replace(microsecond=behind.microsecond // 1000 * 1000)

    land.store.clock = lambda: behind + timedelta(minutes=14)
    with pytest.raises(RefusedError, match="rests for"):
        grow("oak", auto=True)
    assert is_whole(land, 4)

    land.store.clock = lambda: behind + timedelta(minutes=15, seconds=1)
    grow("oak", auto=True)
    assert is_whole(land, 5)


def fails(land: Hilly, **more: Any) -> bool:
    """Whether growing does, with what is broken on purpose."""
    with contextlib.suppress(MachineError):
        grow("oak", **more)
        return False
    return True


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_expansion_that_fails_at_any_effect_is_taken_back_and_nothing_is_lost(land: Hilly) -> None:
    """The cooldown counts from the claim all the same: what fails is not tried again all the time."""
    plant("oak", nodes=3)
    pids, files = running(land), settings_of(land)
    tried, claims = 0, []

    with traffic(land.forest("oak"), pause=SLOWLY) as programs:
        for k in itertools.count():
            before = land.forest("oak")
            land.effects.seen.clear()
            with land.effects.failing("*", broken(), after=k):
                if not fails(land):
                    break
            after, tried = land.forest("oak"), tried + 1
            assert is_whole(land, 3), k
            assert running(land) == pids, k
            assert settings_of(land) == files, k
            assert (
                {server.name for server in servers(land)} == {node.name for node in after.nodes} == {*pids}
            ), k
            assert after.size == "medium", k
            claimed = after.last_expansion != before.last_expansion
            assert claimed >= bool(land.effects.matching("create *")), k
            if claimed:
                claims.append(after.last_expansion)
            programs.fine()

    assert tried > len(STEPS)
    assert len(claims) > len(STEPS)
    assert claims == sorted(filter(None, claims))


def test_streams_that_came_to_a_node_are_saved_when_it_is_taken_back(land: Hilly) -> None:
    forest = plant("oak", nodes=3).forest
    came: list[str] = []

    with traffic(forest):
        arrive = partial(fill, forest, "oak-node-4", came)
        with land.effects.failing("record *", broken(), after=2, first=arrive):
            assert fails(land)

    assert is_whole(land, 3)
    assert came
    assert [messages(land, name) for name in came] == [1] * len(came)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_expansion_that_was_killed_at_any_step_is_completed_by_the_next_run(land: Hilly) -> None:
    """What a killed run leaves is what one leaves that is told to keep what it added; its lease is over."""
    plant("oak", nodes=3)
    pids = running(land)

    with traffic(land.forest("oak"), pause=SLOWLY) as programs:
        for effect, after in STEPS:
            fresh = land.forest("oak").fresh_names(1)[0]
            with land.effects.failing(effect.format(fresh), broken(), after=after):
                assert fails(land, keep=True), effect
            left = land.forest("oak")
            assert (left.status, left.size) == (Status.GROWING, "medium"), effect
            assert pids.items() <= running(land).items(), effect

            done = grow("oak", nodes=9)

            assert done.fresh == (fresh,), effect
            assert is_whole(land, 4), effect
            assert done.forest.last_expansion == left.last_expansion, effect
            remove_node("oak", fresh)
            assert is_whole(land, 3), effect
            programs.fine()

    assert running(land) == pids


@pytest.mark.parametrize(
    "step", [pytest.param(each, marks=() if each == STEPS[9] else pytest.mark.long) for each in STEPS]
)
def test_a_forest_goes_on_while_nobody_completes_a_killed_expansion(
    land: Hilly, step: tuple[str, int]
) -> None:
    """And what the run added is taken back from outside, as when a worker finds it dead."""
    plant("oak", nodes=3)
    effect, after = step[0].format("oak-node-4"), step[1]

    with traffic(land.forest("oak")) as programs:
        with land.effects.failing(effect, broken(), after=after):
            assert fails(land, keep=True)
        left, before = land.forest("oak"), programs.acknowledged
        wait_for(lambda: programs.acknowledged, lambda now: now >= before + 50)
        run = left.node("oak-node-4").run
        assert run
        sweep(grow, FlowRun(id=UUID(run), flow_id=uuid4(), parameters={"name": "oak"}), Crashed())

    assert is_whole(land, 3)
    assert land.forest("oak").last_expansion == left.last_expansion
    assert "oak-node-4" not in running(land)
    assert not land.hills.folder("oak-node-4").exists()


def test_what_was_kept_on_purpose_is_not_taken_back(land: Hilly) -> None:
    plant("oak", nodes=3)
    with land.effects.failing("start oak-node-4 nats", broken()):
        assert fails(land, keep=True)
    left = land.forest("oak")
    run = UUID(left.node("oak-node-4").run)

    sweep(grow, FlowRun(id=run, flow_id=uuid4(), parameters={"name": "oak", "keep": True}), Crashed())
    assert land.forest("oak") == left
    sweep(grow, FlowRun(id=uuid4(), flow_id=uuid4(), parameters={"name": "oak"}), Crashed())  # another's run

    assert land.forest("oak") == left


def test_what_cannot_be_taken_back_stays_recorded_and_is_told(
    land: Hilly, caplog: pytest.LogCaptureFixture
) -> None:
    plant("oak", nodes=3)
    away = MachineError("the cloud is away")

    with (
        land.effects.failing("reach oak-node-3 4000", broken(), after=1),
        land.effects.failing("delete oak-node-4", away),
    ):
        assert fails(land)

    (said,) = [each.getMessage() for each in caplog.records if "stays, for" in each.getMessage()]
    assert "the cloud is away" in said
    assert "morpheus node remove oak node-4" in said
    left = land.forest("oak")
    assert {node.name: node.leaving for node in left.nodes}["oak-node-4"]
    assert remove_node("oak", "node-4").staying == left.staying
    assert is_whole(land, 3)


@pytest.mark.long
def test_a_node_that_vanishes_once_the_cluster_has_formed_is_named(
    land: Hilly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "morpheus.yaml").write_text("provisioning: {readiness_timeout: 10}")
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "morpheus.yaml"))
    plant("oak", nodes=3)

    def vanish() -> None:
        os.kill(running(land)["oak-node-4"], signal.SIGKILL)

    with (
        land.effects.failing("reach oak-node-4 4000", broken(), times=0, first=vanish),
        pytest.raises(NotReadyError, match=r"No message came through.*; by now .*oak-node-4"),
    ):
        grow("oak")

    assert is_whole(land, 3)


def messages(land: Hilly, name: str) -> int:
    """How many messages the stream *name* has."""

    async def ask() -> int:
        urls = [client_url(node) for node in land.forest("oak").staying]
        async with connection(urls) as client:
            return (await insist(lambda: client.jetstream(timeout=5).stream_info(name))).state.messages

    return asyncio.run(ask())


def settings_of(land: Hilly) -> Mapping[str, str]:
    """What tells the nodes which others there are."""
    return {name: (land.hills.folder(name) / "cluster.conf").read_text() for name in running(land)}


def servers(land: Hilly) -> Sequence[Server]:
    return land.hills.list_servers(land.registry.read().registry_id or "", "oak")

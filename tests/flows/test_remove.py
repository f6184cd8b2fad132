"""A node leaves: what is on it moves away first, and a node that cannot leave stays as it is."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from nats.js.api import Placement, StreamConfig

from flows.grow import grow
from flows.plant import plant
from flows.remove import remove_node
from morpheus.errors import (
    ForestNotFoundError,
    InvalidInputError,
    MachineError,
    MorpheusError,
    NotReadyError,
    RefusedError,
)
from morpheus.forest import Forest
from morpheus.machine.limits import Limits
from morpheus.nats.config import client_url
from morpheus.watch import judged, read_nodes
from tests.flows.conftest import Hilly
from tests.flows.test_grow import broken, fill, is_whole, messages, running, settings_of
from tests.flows.traffic import connection, copies, insist, traffic

GAP = 10.0  # seconds: a stream may elect a leader meanwhile, which takes it up to nine
BUSY = 10.0  # seconds for which a server says nothing
SLOWLY = 0.05  # seconds between two messages where it takes minutes
VICTIM = "oak-node-4"
STEPS = [  # (effect, how many of that kind pass before), in their order
    ("reach oak-node-4 8000", 1),  # the first one looks whether the forest is well
    (f"start {VICTIM} nats", 0),
    ("reach oak-node-1 4000", 0),
    ("record *", 1),  # that it leaves; the first takes the lease
    (f"stop {VICTIM} workload", 0),
    (f"stop {VICTIM} nats", 0),
    ("reach oak-node-1 4000", 3),
    ("put oak-node-1 cluster.conf", 0),
    ("put oak-node-3 cluster.conf", 0),
    (f"delete {VICTIM}", 0),
    ("record *", 2),  # that it is gone
]


def leader(land: Hilly) -> str:
    forest = land.forest("oak")
    return judged(forest.staying, read_nodes(forest.staying, land.hills)).leader


def add(forest: Forest, **config: Any) -> None:
    """Make a stream with a message."""

    async def make() -> None:
        async with connection([client_url(node) for node in forest.staying]) as client:
            stream = client.jetstream(timeout=5)
            await insist(lambda: stream.add_stream(StreamConfig(subjects=[config["name"]], **config)))
            await insist(lambda: stream.publish(config["name"], b"leaf"))

    asyncio.run(make())


@pytest.mark.long
def test_two_nodes_leave_one_after_the_other_under_load_and_nothing_is_lost(land: Hilly) -> None:
    """Each of them leads the cluster, and holds streams of which there is no other copy."""
    plant("oak", nodes=5)

    with traffic(land.forest("oak"), lone=8) as programs:
        for left in (4, 3):
            victim, pids = leader(land), running(land)
            fill(land.forest("oak"), victim, [])
            node = land.forest("oak").node(victim)
            route = f"@{node.ip}:{node.ports.cluster}"
            assert all(route in text for text in settings_of(land).values())

            rest = remove_node("oak", victim)

            assert is_whole(land, left)
            assert rest.staying == land.forest("oak").staying
            assert victim not in {node.name for node in rest.nodes}
            assert rest.size == {4: "custom", 3: "medium"}[left]
            assert rest.fresh_names(1) == ("oak-node-6",)
            assert running(land) == {name: pid for name, pid in pids.items() if name != victim}
            assert not land.hills.folder(victim).exists()
            assert all(route not in text for text in settings_of(land).values())
            assert all(victim not in stands for stands in copies(rest).values())

    assert programs.gap < GAP
    assert min(len(stands) for stands in copies(land.forest("oak")).values()) > 0


def test_a_forest_of_three_gives_none_away(land: Hilly) -> None:
    forest = plant("oak", nodes=3).forest
    land.effects.seen.clear()

    with pytest.raises(RefusedError, match="would have 2 node"):
        remove_node("oak", "node-1")

    assert land.effects.seen == []
    assert land.forest("oak").nodes == forest.nodes


def test_what_is_not_there_cannot_leave(land: Hilly) -> None:
    plant("oak", nodes=4)

    with pytest.raises(InvalidInputError, match=r"no node node-9. It has node-1, node-2, node-3, node-4"):
        remove_node("oak", "node-9")
    with pytest.raises(ForestNotFoundError):
        remove_node("elm", "node-1")


HALF = int(0.6 * Limits().file)
NEVER: dict[str, tuple[list[dict[str, Any]], str]] = {
    "copies": (
        [{"name": "wide", "num_replicas": 4}],
        "the stream wide has more copies than the 3 other servers can take",
    ),
    "tags": (
        [{"name": "bound", "placement": Placement(tags=[VICTIM])}],
        "the stream bound is bound to it by its placement tags",
    ),
    "room": ([{"name": f"half{k}", "max_bytes": HALF} for k in range(4)], "JetStream storage left"),
}


@pytest.mark.parametrize("why", NEVER)
def test_what_can_never_leave_is_refused_before_anything_is_touched(land: Hilly, why: str) -> None:
    configs, words = NEVER[why]
    forest, pids = plant("oak", nodes=4).forest, running(land)
    for config in configs:
        add(forest, **config)
    stands = copies(forest)
    land.effects.seen.clear()

    with pytest.raises(RefusedError, match=f"{VICTIM} cannot leave: .*{words}.* Nothing was changed"):
        remove_node("oak", VICTIM)

    assert is_whole(land, 4)
    assert land.forest("oak").nodes == forest.nodes
    assert running(land) == pids
    assert copies(forest) == stands
    assert not [each for each in land.effects.seen if each.split()[0] in {"stop", "put", "delete"}]


@pytest.mark.long
def test_that_others_have_no_room_is_found_out_also_while_one_of_them_is_busy(land: Hilly) -> None:
    configs, words = NEVER["room"]
    forest = plant("oak", nodes=4).forest
    for config in configs:
        add(forest, **config)
    stands, pids = copies(forest), running(land)
    busy = next(node.name for node in forest.staying if node.name not in {VICTIM, leader(land)})
    wakes = threading.Timer(BUSY, os.kill, (pids[busy], signal.SIGCONT))

    def halt() -> None:
        os.kill(pids[busy], signal.SIGSTOP)
        wakes.start()

    with (
        land.effects.failing(f"start {VICTIM} nats", broken(), times=0, first=halt),
        pytest.raises(RefusedError, match=f"{VICTIM} cannot leave: .*{words}"),
    ):
        remove_node("oak", VICTIM)

    wakes.join()
    assert copies(forest) == stands
    assert running(land) == pids


@contextlib.contextmanager
def halted(land: Hilly, node: str) -> Iterator[None]:
    """The server of *node* hears nothing while the block runs."""
    pid = running(land)[node]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.long
def test_a_node_that_gives_nothing_away_stays_and_leaves_another_time(
    land: Hilly, monkeypatch: pytest.MonkeyPatch
) -> None:
    forest, pids = plant("oak", nodes=4).forest, running(land)
    made: list[str] = []
    fill(forest, VICTIM, made)
    monkeypatch.setattr("flows._departure.MOVED", 3.0)

    with (
        halted(land, VICTIM),
        pytest.raises(NotReadyError, match=f"streams on {VICTIM} to move away.*{made[-1]}"),
    ):
        remove_node("oak", VICTIM)

    assert land.forest("oak").nodes == forest.nodes
    assert land.forest("oak").lease is None
    assert running(land) == pids
    monkeypatch.setattr("flows._departure.MOVED", 60.0)
    remove_node("oak", VICTIM)
    assert is_whole(land, 3)
    assert [messages(land, name) for name in made] == [1] * len(made)


def test_a_node_whose_server_died_leaves_with_what_it_held(land: Hilly) -> None:
    forest, made = plant("oak", nodes=4).forest, list[str]()
    fill(forest, VICTIM, made)
    os.kill(running(land)[VICTIM], signal.SIGKILL)

    remove_node("oak", VICTIM)

    assert is_whole(land, 3)
    assert [messages(land, name) for name in made] == [1] * len(made)


@pytest.mark.long
def test_a_node_that_gets_streams_while_it_stops_starts_again_and_gives_them_away(land: Hilly) -> None:
    forest, made = plant("oak", nodes=4).forest, list[str]()

    with land.effects.failing(
        f"stop {VICTIM} nats", broken(), times=0, first=partial(fill, forest, VICTIM, made)
    ):
        remove_node("oak", VICTIM)

    assert len(land.effects.matching(f"stop {VICTIM} nats")) == 2
    assert is_whole(land, 3)
    assert [messages(land, name) for name in made] == [1] * len(made)


@pytest.mark.parametrize("complete", [partial(remove_node, "oak", VICTIM), partial(plant, "oak")])
def test_streams_that_came_before_a_departure_was_killed_are_not_lost(
    land: Hilly, complete: Callable[[], object]
) -> None:
    """Whoever completes it finds a server that has stopped, on its way out by the records."""
    forest, made = plant("oak", nodes=4).forest, list[str]()
    arrive = partial(fill, forest, VICTIM, made)
    with (
        land.effects.failing(f"stop {VICTIM} nats", broken(), first=arrive),
        pytest.raises(MachineError, match="on purpose"),
    ):
        remove_node("oak", VICTIM)
    left = land.forest("oak").node(VICTIM)
    assert left.leaving
    land.hills.stop(VICTIM)

    complete()

    assert is_whole(land, 3)
    assert [messages(land, name) for name in made] == [1] * len(made)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("by_plant", [False, True])
def test_a_departure_that_stopped_at_any_step_is_completed(land: Hilly, by_plant: bool) -> None:
    """By running it again; or by planting, which completes it as soon as it is recorded."""
    plant("oak", nodes=3)
    pids, victim = running(land), ""

    with traffic(land.forest("oak"), pause=SLOWLY) as programs:
        for effect, after in STEPS:
            if len(land.forest("oak").staying) == 3:
                [victim] = grow("oak").fresh
            effect = effect.replace(VICTIM, victim)  # noqa: PLW2901  # the same, of this node
            land.effects.seen.clear()
            with land.effects.failing(effect, broken(), after=after), pytest.raises(MorpheusError):
                remove_node("oak", victim)
            assert land.forest("oak").lease is None, effect
            recorded = {node.name: node.leaving for node in land.forest("oak").nodes}

            if by_plant:
                plant("oak")
                assert is_whole(land, 3 if recorded.get(victim, True) else 4), effect
            else:
                if victim in recorded:
                    remove_node("oak", victim)
                assert is_whole(land, 3), effect
            programs.fine()

    assert pids.items() <= running(land).items()

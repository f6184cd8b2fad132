"""A departure was interrupted, and another node lost its store: nothing that is left is lost with it."""

import asyncio
from functools import partial

import pytest
from nats.js.api import StreamConfig

from flows.plant import plant
from flows.remove import remove_node
from morpheus.errors import MachineError, NotReadyError, RefusedError
from morpheus.forest import Forest
from morpheus.nats.config import client_url
from tests.flows.conftest import Hilly
from tests.flows.test_grow import broken, fill, is_whole, messages
from tests.flows.traffic import connection, insist

pytestmark = pytest.mark.long

LOST = "oak-node-2"
STOPPING = "stop {} workload"  # it is recorded that it leaves, and its server runs
FORGOTTEN = "put oak-node-1 cluster.conf"  # the cluster counts it no more


def spread(forest: Forest) -> None:
    """Make streams with three copies each, wherever NATS puts them, and a message in each."""

    async def make() -> None:
        async with connection([client_url(node) for node in forest.staying]) as client:
            stream = client.jetstream(timeout=5)
            for name in (f"wide{k}" for k in range(4)):
                wide = StreamConfig(name=name, subjects=[name], num_replicas=3)
                await insist(lambda wide=wide: stream.add_stream(wide))  # type: ignore[misc]
                await insist(lambda name=name: stream.publish(name, b"leaf", headers={"Nats-Msg-Id": name}))  # type: ignore[misc]

    asyncio.run(make())


def interrupted(land: Hilly, count: int, effect: str = STOPPING) -> list[str]:
    """Plant so many nodes, of which the last was about to leave; the streams that came to it meanwhile."""
    victim, made = f"oak-node-{count}", list[str]()
    forest = plant("oak", nodes=count).forest
    spread(forest)
    arrive = partial(fill, forest, victim, made) if effect == STOPPING else lambda: None
    with (
        land.effects.failing(effect.format(victim), broken(), first=arrive),
        pytest.raises(MachineError, match="on purpose"),
    ):
        remove_node("oak", victim)
    return made


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("count", [4, 5])
def test_planting_replaces_what_was_lost_before_the_other_one_leaves(
    land: Hilly, count: int, stopped: bool
) -> None:
    """Of four nodes two would be left: with the one that leaves they are a majority."""
    made = interrupted(land, count)
    assert land.forest("oak").node(f"oak-node-{count}").leaving
    if stopped:
        land.hills.stop(f"oak-node-{count}")
    land.hills.lose(LOST)

    planted = plant("oak")

    assert is_whole(land, count - 1)
    assert not {LOST, f"oak-node-{count}"} & {node.name for node in land.forest("oak").nodes}
    assert planted.lost_streams == ()
    assert [messages(land, name) for name in (*made, "wide0", "wide1", "wide2", "wide3")] == [1] * 7


def test_one_that_the_cluster_has_forgotten_goes_before(land: Hilly) -> None:
    interrupted(land, 4, FORGOTTEN)
    land.hills.lose(LOST)

    plant("oak")

    assert is_whole(land, 3)
    assert [node.name for node in land.forest("oak").nodes] == ["oak-node-1", "oak-node-3", "oak-node-5"]
    assert [messages(land, f"wide{k}") for k in range(4)] == [1] * 4


def test_a_departure_is_refused_at_once_while_another_node_has_lost_its_store(land: Hilly) -> None:
    interrupted(land, 4)
    land.hills.lose(LOST)
    before = land.forest("oak").nodes

    with pytest.raises(NotReadyError, match=r"Heal it with .* --name oak; nothing was changed"):
        remove_node("oak", "node-4")

    assert land.forest("oak").nodes == before


def test_without_a_majority_even_so_nothing_is_changed(land: Hilly) -> None:
    interrupted(land, 4)
    for name in (LOST, "oak-node-3"):
        land.hills.lose(name)
    before = land.forest("oak").nodes

    with pytest.raises(RefusedError, match="without a majority of its 4 nodes"):
        plant("oak")

    assert land.forest("oak").nodes == before

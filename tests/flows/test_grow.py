"""Growing: new nodes come, old ones go on, and programs that use the forest notice next to nothing."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from nats.js.api import Placement, StreamConfig

from flows.grow import grow
from flows.plant import plant
from morpheus.forest import Forest, Status
from morpheus.nats.config import client_url
from morpheus.watch import judged, read_nodes
from tests.flows.conftest import Hilly
from tests.flows.traffic import connection, copies, insist, traffic
from tests.nats.grove import wait_for

GAP = 3.0  # seconds in which a publisher may get no acknowledgement while nodes are added


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

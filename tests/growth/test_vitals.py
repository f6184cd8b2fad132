"""The vitals of real servers under real load, and of those that are away."""

import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from morpheus import vitals
from morpheus.forest import Forest, Node
from morpheus.growth import Facts, Outcome, Policy, judge
from morpheus.health import NodeHealth
from morpheus.nats.monitor import MetaGroup, Reading, Replica
from morpheus.trend import Kind
from morpheus.vitals import Measured
from tests.growth.load import burning, fill, filling, holding, in_memory, publishing
from tests.growth.sample import NOW
from tests.nats.grove import Grove, formed, standing, wait_for

MIB = 2**20


@pytest.fixture(scope="module")
def grove(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """Three nodes with little room for streams."""
    grove = Grove(tmp_path_factory.mktemp("small"), 1, 2, 3)
    small = {"jetstream_file": str(20 * MIB), "jetstream_memory": str(10 * MIB)}
    grove.forest = grove.forest.with_nodes(
        *(replace(node, metadata={**node.metadata, **small}) for node in grove.forest.nodes)
    )
    with formed(grove):
        yield grove


def measured(grove: Grove, window: float = 0.5) -> Measured:
    return vitals.measure(grove.forest, grove.cloud, "ours", window=window)


def verdict(grove: Grove, seen: Measured, **thresholds: float) -> tuple[Outcome, list[str]]:
    """What is said of it when all thresholds but those given are out of reach, and each has a machine."""
    given = {Kind(kind): value for kind, value in thresholds.items()}
    policy = Policy(thresholds={**dict.fromkeys(Kind, 100.0), **given})
    told = judge(Facts(replace(grove.forest, provider="hetzner"), seen.vitals, NOW, fault=seen.fault), policy)
    return told.outcome, [each.sentence for each in told.breaches]


def test_a_healthy_forest_is_known_in_every_respect(grove: Grove) -> None:
    seen = measured(grove)

    assert seen.fault == ""
    assert [each.node for each in seen.vitals] == grove.names
    for each in seen.vitals:
        assert (each.reachable, each.state, each.lagging) == (True, "current", False)
        assert set(each.loads) == set(Kind)
        assert all(0 <= value <= 100 for value in each.loads.values())
        assert (each.server_memory or 0) > MIB
        assert each.slow_consumers_growing is False
        assert each.rate_in is not None
        assert each.rate_in >= 0


def test_a_publisher_is_seen_as_a_rate_and_a_connection(grove: Grove) -> None:
    before = measured(grove).vitals[1]
    with publishing(grove.urls()[1]):
        time.sleep(0.2)
        seen = measured(grove, window=1).vitals[1]

    assert seen.connections == (before.connections or 0) + 1
    assert (seen.rate_in or 0) > 500
    assert (seen.messages_in or 0) > (before.messages_in or 0) + 500


def test_cores_that_burn_call_for_a_node(grove: Grove) -> None:
    with burning():
        seen = measured(grove, window=2)

    outcome, breaches = verdict(grove, seen, cpu=60)
    assert (outcome, breaches) == (Outcome.GROW, [f"CPU above 60% on node-{k}" for k in (1, 2, 3)])


def test_memory_that_a_program_takes_calls_for_a_node(grove: Grove) -> None:
    """It takes a tenth of all; the threshold is crossed by less, since others come and go."""
    before = measured(grove)
    threshold = round(before.vitals[0].loads[Kind.MEMORY] + 3)
    with holding(psutil.virtual_memory().total // 10):
        seen = measured(grove)

    assert verdict(grove, before, memory=threshold) == (Outcome.NOTHING, [])
    outcome, breaches = verdict(grove, seen, memory=threshold)
    assert (outcome, breaches) == (
        Outcome.GROW,
        [f"Memory above {threshold}% on node-{k}" for k in (1, 2, 3)],
    )


def test_a_disk_that_fills_up_calls_for_a_node() -> None:
    """By a hundredth; the threshold is in the middle. One server, which with all of its own stands there."""
    with in_memory() as (disk, total), standing(disk, 1) as grove:
        before = measured(grove)
        threshold = before.vitals[0].loads[Kind.DISK] + 0.5
        with filling(disk, total // 100):
            seen = measured(grove)
        told = [verdict(grove, each, disk=threshold) for each in (before, seen)]

    assert told == [(Outcome.NOTHING, []), (Outcome.GROW, [f"Disk above {threshold:g}% on node-1"])]


@pytest.mark.parametrize(
    ("kind", "storage", "word"),
    [(Kind.STORAGE, "file", "Storage"), (Kind.JETSTREAM_MEMORY, "memory", "JetStream memory")],
)
def test_streams_that_fill_up_call_for_a_node(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, storage: str, word: str
) -> None:
    """One server, so that it is known where the stream is."""
    grove = Grove(tmp_path_factory.mktemp(storage), 1, name="elm")
    small = {"jetstream_file": str(20 * MIB), "jetstream_memory": str(20 * MIB)}
    [node] = grove.forest.nodes
    grove.forest = grove.forest.with_nodes(replace(node, metadata={**node.metadata, **small}))
    with formed(grove):
        assert verdict(grove, measured(grove))[0] is Outcome.NOTHING
        fill(grove.urls(), 17 * MIB, storage=storage)
        seen = measured(grove)

    assert verdict(grove, seen, **{kind: 80}) == (Outcome.GROW, [f"{word} above 80% on node-1"])
    assert 80 < seen.vitals[0].loads[kind] < 100


def test_what_is_promised_to_a_stream_is_as_good_as_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    with formed(Grove(tmp_path_factory.mktemp("reserved"), 1, name="fir")) as grove:
        limit = int(grove.forest.nodes[0].metadata["jetstream_file"])
        fill(grove.urls(), 0, storage="file", reserved=limit * 9 // 10)
        seen = measured(grove)

    assert seen.vitals[0].loads[Kind.STORAGE] == pytest.approx(90, abs=0.1)


def test_a_server_that_is_away_is_unreachable_and_not_idle(grove: Grove) -> None:
    victim = grove.names[2]
    grove.kill(victim)
    try:
        began = time.monotonic()
        seen = measured(grove)
        took = time.monotonic() - began
    finally:
        grove.start([victim])
        grove.wait_formed()

    away = seen.vitals[2]
    assert (away.reachable, away.loads, away.rate_in, away.connections) == (False, {}, None, None)
    assert away.state.startswith("unreachable")
    assert seen.fault
    assert verdict(grove, seen, cpu=0.001)[0] is Outcome.UNHEALTHY
    assert took < 10


def test_where_nobody_gets_onto_machines_nothing_is_known(grove: Grove) -> None:
    seen = vitals.measure(grove.forest, grove.cloud, "ours", unread="The key is not here.")

    assert [(each.reachable, each.loads) for each in seen.vitals] == [(None, {})] * 3
    assert seen.health.unread == "The key is not here."


def test_a_node_without_a_machine_is_unreachable(grove: Grove) -> None:
    forest: Forest = grove.forest.with_nodes(Node("oak-node-4"))

    seen = vitals.measure(forest, grove.cloud, "ours", window=0.1)

    assert (seen.vitals[3].reachable, seen.vitals[3].state) == (False, "unreachable (it has no machine yet)")
    assert seen.vitals[0].reachable


def test_counters_that_began_anew_are_no_rate() -> None:
    first = Reading(server="a", messages_in=100, asked=10.0)

    assert vitals._rate(first, replace(first, asked=12.0), 100, 40) is None
    assert vitals._rate(first, replace(first, asked=12.0), 100, 140) == 20
    assert vitals._rate(first, first, 100, 140) is None


def test_who_is_behind_is_what_the_leader_says() -> None:
    """A follower's view of the other followers means nothing."""
    replicas = (Replica("b", current=True), Replica("c", current=True, lag=7), Replica("d", current=False))
    leader = Reading(server="a", meta=MetaGroup("a", 4, replicas))
    follower = Reading(server="b", meta=MetaGroup("a", 4, (Replica("c", current=False),)))

    assert vitals._lagging({"b": follower, "a": leader}) == {"a": False, "b": False, "c": True, "d": True}
    assert vitals._lagging({"b": follower}) == {}


def test_a_server_that_goes_away_meanwhile_is_unreachable(grove: Grove) -> None:
    """It answered at first; what counts is how it is at the end."""
    victim = grove.names[1]
    first = grove.read([victim])[victim]
    grove.kill(victim)
    try:
        later = wait_for(lambda: grove.read([victim])[victim], lambda each: not each.reachable)
    finally:
        grove.start([victim])
        grove.wait_formed()
    node = grove.node(victim)
    health = NodeHealth(node, "current", first, 1, None)

    told = vitals._vitals(health, later, None, {})

    assert (told.reachable, told.loads) == (False, {})

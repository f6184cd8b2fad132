"""The vitals of a forest: its machines and servers measured at once, over the same few seconds.

Machines tell their load themselves, by one SSH command each; for local forests, whose nodes share it, that is
the load of this computer, the same for every node. The servers are asked before and after, which gives rates.
A node that is away costs its own time only.
"""

import functools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from morpheus import watch
from morpheus.cloud import Cloud
from morpheus.errors import MachineError, RefusedError, UnreachableError
from morpheus.forest import Forest, Node
from morpheus.growth import Vitals
from morpheus.health import Health, NodeHealth, examine
from morpheus.machine import gauges
from morpheus.machine.gauges import Gauges
from morpheus.nats.monitor import Reading
from morpheus.trend import Kind

log = logging.getLogger("morpheus.vitals")

WINDOW = 3.0  # seconds
AT_ONCE = 100  # machines that measure themselves; each is only waited for


@dataclass(frozen=True, slots=True)
class Measured:
    """A forest as it was seen at the beginning, and its nodes' vitals over the window."""

    health: Health
    vitals: tuple[Vitals, ...]

    @property
    def fault(self) -> str:
        """Why its servers do not form what they should; empty when they do, or when nobody can tell."""
        formation = self.health.formation
        return "" if formation.formed or not formation.known else formation.reason


def measure(
    forest: Forest, cloud: Cloud, registry_id: str, *, unread: str = "", window: float | None = None
) -> Measured:
    """Measure every recorded node of *forest* over *window* seconds, all at once.

    Where nobody gets onto the machines (*unread* says why), nothing is known but whether they run.
    """
    window = WINDOW if window is None else window
    if unread or not cloud.runs_programs:
        health = examine(forest, cloud, registry_id, unread=unread)
        return Measured(health, tuple(Vitals(each.node.name, each.state) for each in health.nodes))
    with ThreadPoolExecutor(1) as pool:  # while the servers are asked, the machines measure themselves
        loads = pool.submit(_loads, [node for node in forest.staying if node.ip], cloud, window)
        health = examine(forest, cloud, registry_id)
        alive = [each.node for each in health.nodes if each.reading.known]
        asked = max((each.reading.asked for each in health.nodes if each.reading.known), default=0.0)
        time.sleep(max(0.0, asked + window - time.monotonic()))
        later = watch.read_nodes(alive, cloud)
        told = loads.result()
    lagging = _lagging(later)
    return Measured(
        health,
        tuple(
            _vitals(each, later.get(each.node.name), told.get(each.node.name), lagging)
            for each in health.nodes
        ),
    )


def _loads(nodes: Sequence[Node], cloud: Cloud, window: float) -> Mapping[str, Gauges]:
    """How busy the machines of *nodes* are; those that do not tell are left out."""
    if not nodes:
        return {}
    if not cloud.needs_key:  # they are all this computer
        store = watch.machine_of(nodes[0], cloud).layout.store
        try:
            told = gauges.of_this_computer(store, window)
        except MachineError as error:
            log.info("%s", error)
            return {}
        return dict.fromkeys((node.name for node in nodes), told)
    with ThreadPoolExecutor(min(AT_ONCE, len(nodes))) as pool:
        asked = pool.map(functools.partial(_load, cloud, window), nodes)
        pairs = zip((node.name for node in nodes), asked, strict=True)
        return {name: each for name, each in pairs if each}


def _load(cloud: Cloud, window: float, node: Node) -> Gauges | None:
    try:
        return gauges.measure(watch.machine_of(node, cloud), window)
    except (UnreachableError, RefusedError, MachineError) as error:
        log.info("%s does not tell its load: %s", node.name, error)
        return None


def _lagging(readings: Mapping[str, Reading]) -> Mapping[str, bool]:
    """Which servers are behind in the meta group, as its leader sees them, without those it does not know."""
    groups = [each.meta for each in readings.values() if each.reachable and each.leads and each.meta]
    if len(groups) != 1:
        return {}
    behind = {each.name: not each.healthy or each.lag > 0 for each in groups[0].replicas}
    return {groups[0].leader: False, **behind}


def _vitals(
    seen: NodeHealth, later: Reading | None, load: Gauges | None, lagging: Mapping[str, bool]
) -> Vitals:
    """The vitals of one node from what it said first and *later*, and from what its machine told."""
    name, first = seen.node.name, seen.reading
    if later and not later.reachable:  # it went away meanwhile
        return Vitals(name, f"unreachable ({later.error})", reachable=False)
    if not first.reachable:
        return Vitals(name, seen.state, reachable=False)
    machine = {Kind.CPU: load.cpu, Kind.MEMORY: load.memory, Kind.DISK: load.disk} if load else {}
    if later is None:
        return Vitals(name, seen.state, reachable=True, loads=machine)
    return Vitals(
        name,
        seen.state,
        reachable=True,
        lagging=False if later.meta is None else lagging.get(name),
        loads={**machine, **dict(_filled(later))},
        server_memory=later.memory,
        connections=later.connections,
        messages_in=later.messages_in,
        messages_out=later.messages_out,
        rate_in=_rate(first, later, first.messages_in, later.messages_in),
        rate_out=_rate(first, later, first.messages_out, later.messages_out),
        slow_consumers=later.slow_consumers,
        slow_consumers_growing=later.slow_consumers > first.slow_consumers,
    )


def _filled(reading: Reading) -> Iterator[tuple[Kind, float]]:
    """How full JetStream is; what is promised to streams on disk is as good as used."""
    if reading.max_js_memory > 0:
        yield Kind.JETSTREAM_MEMORY, 100 * reading.js_memory / reading.max_js_memory
    if reading.max_storage > 0:
        used = max(reading.storage, reading.reserved_storage)
        yield Kind.STORAGE, 100 * used / reading.max_storage


def _rate(first: Reading, later: Reading, before: int, after: int) -> float | None:
    """Messages per second; None where the server began anew meanwhile."""
    passed = later.asked - first.asked
    return (after - before) / passed if passed > 0 and after >= before else None

"""The health of a forest as people look at it: every node measured, or what kept us from it."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from morpheus.cloud import Cloud, Server
from morpheus.errors import MachineError, RefusedError, UnreachableError
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, WORKLOAD, StoreState
from morpheus.migration import Phase
from morpheus.nats.cluster import Formation, without_stores
from morpheus.nats.monitor import Reading
from morpheus.watch import AT_ONCE, judged, machine_of, read_nodes, server_of

log = logging.getLogger("morpheus.health")


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """One node as people look at it.

    ``state`` is "current" or says what is wrong; ``cpu`` is percent of all cores of its machine,
    ``memory`` bytes of the server's process; both None where nothing was measured. ``pid`` and
    ``workload_pid`` are of this machine's processes, None where there is none.
    """

    node: Node
    state: str
    reading: Reading
    pid: int | None
    workload_pid: int | None

    @property
    def cpu(self) -> float | None:
        return self.reading.cpu / self.reading.cores if self.reading.known else None

    @property
    def memory(self) -> int | None:
        return self.reading.memory if self.reading.known else None


@dataclass(frozen=True, slots=True)
class Health:
    """A forest as people look at it; ``unread`` says why nothing but its machines was looked at."""

    forest: Forest
    formation: Formation
    nodes: tuple[NodeHealth, ...]
    unread: str = ""


def examine(forest: Forest, cloud: Cloud, registry_id: str, *, unread: str = "") -> Health:
    """Measure every recorded node of *forest*, all at once; one that is away costs its own time only.

    Where programs cannot be put on machines, or nobody enters them (*unread* says why), what is seen is
    whether the machines run.
    """
    if unread or not cloud.runs_programs:
        return machines_only(forest, cloud.list_servers(registry_id, forest.name), unread)
    nodes = forest.staying
    with ThreadPoolExecutor(AT_ONCE) as pool:  # which also opens the ways
        looked = pool.map(partial(_inside, cloud), nodes)
        insides = dict(zip((node.name for node in nodes), looked, strict=True))
    readings = read_nodes([node for node in nodes if node.ip and not insides[node.name].fault], cloud)
    readings = {node.name: readings.get(node.name, _silence(node, insides[node.name])) for node in nodes}
    gone = [node.name for node in nodes if node.ip and insides[node.name].store is StoreState.GONE]
    formation = (
        without_stores(judged(nodes, readings), gone) if nodes else Formation(False, "it has no nodes", {})
    )
    rows = tuple(
        NodeHealth(
            node,
            formation.states[node.name],
            readings[node.name],
            insides[node.name].nats,
            insides[node.name].workload,
        )
        for node in nodes
    )
    return Health(forest, _unless_moving(forest, formation), rows)


def _unless_moving(forest: Forest, formation: Formation) -> Formation:
    """*formation*, but for a forest whose streams are between two servers of one name: either may answer."""
    migration = forest.migration
    if migration is None or migration.phase == Phase.KEPT:
        return formation
    return replace(
        formation,
        formed=False,
        known=True,
        reason=f"its streams are on their way from {migration.node} into a cluster ({migration.phase})",
    )


@dataclass(frozen=True, slots=True)
class _Inside:
    """What stands and runs on a node's machine: process ids, None where nothing does.

    ``fault`` says why nobody gets onto it; then nothing bad is known of the rest.
    """

    store: StoreState = StoreState.HELD
    nats: int | None = None
    workload: int | None = None
    fault: str = ""


def _inside(cloud: Cloud, node: Node) -> _Inside:
    """Look into the machine of *node*."""
    if not node.ip:
        return _Inside()
    try:
        machine = machine_of(node, cloud)
        return _Inside(cloud.store(server_of(node)), machine.pid(NATS), machine.pid(WORKLOAD))
    except (UnreachableError, RefusedError, MachineError) as error:
        log.info("%s gives no answer: %s", node.name, error)
        return _Inside(fault=str(error))


def _silence(node: Node, inside: _Inside) -> Reading:
    return Reading(error=inside.fault if node.ip else "it has no machine yet")


def machines_only(forest: Forest, servers: Sequence[Server], unread: str = "") -> Health:
    """What the cloud tells: which machines run. *unread* says why nobody looked at what runs on them."""
    there = {server.name: server.status for server in servers}
    states = {node.name: there.get(node.name, "no machine") for node in forest.staying}
    running = sum(state == Server.RUNNING for state in states.values())
    reason = f"{running} of {len(states)} machines run; what runs on them is not known"
    if strangers := sorted(there.keys() - {node.name for node in forest.nodes}):
        reason += f"; {', '.join(strangers)} exist without a record"
    formation = Formation(running == len(states) > 0, reason, states)
    unseen = Reading(error="nobody looked")
    nodes = (NodeHealth(node, states[node.name], unseen, None, None) for node in forest.staying)
    return Health(forest, formation, tuple(nodes), unread or "programs cannot be put on these machines")

"""Looking at a forest through its machines: what is there, what it says of itself, is it ready."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from morpheus.cloud import Cloud, Server
from morpheus.errors import NotReadyError, RefusedError, UnreachableError
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, WORKLOAD, Machine, StoreState
from morpheus.nats import admin, config, monitor
from morpheus.nats.cluster import Formation, judge, without_stores
from morpheus.nats.monitor import Reading
from morpheus.plan import Sight
from morpheus.registry.document import Document
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.watch")


def machine_of(node: Node, cloud: Cloud) -> Machine:
    """The way onto the machine of a recorded node."""
    return cloud.machine(server_of(node))


def server_of(node: Node) -> Server:
    """The server of a recorded node, as far as the record knows it."""
    return Server(node.name, node.ip or "", {}, node.metadata)


def look(cloud: Cloud, registry_id: str, forest: str) -> Mapping[str, Sight]:
    """What there is under the forest's names, as the plan wants to know it."""
    return {
        server.name: Sight(
            cloud.store(server),
            running=not cloud.runs_programs or cloud.machine(server).pid(NATS) is not None,
        )
        for server in cloud.list_servers(registry_id, forest)
    }


def check_there(document: Document, name: str, cloud: Cloud) -> None:
    """Raise RefusedError when *cloud* has nothing at all of a forest whose record names machines.

    It may be another project: there every machine seems to be gone, while it goes on and costs.
    """
    forest = document.forests.get(name)
    machines = sum(bool(node.ip) for node in forest.nodes) if forest else 0
    if not machines or cloud.provider == "local":
        return
    registry_id = document.registry_id or ""
    if cloud.list_servers(registry_id, name) or cloud.holdings(registry_id, name):
        return
    raise RefusedError(
        f"{name} has {machines} recorded machine(s), and this project has nothing of it: use the token of "
        "the project in which it was planted. Nothing was changed. If its machines are gone for certain: "
        f"morpheus teardown {name} --gone"
    )


def read_nodes(
    nodes: Sequence[Node], cloud: Cloud, *, timeout: float = monitor.TIMEOUT
) -> Mapping[str, Reading]:
    """What each node's server says of itself, all asked at once."""
    with _reached(nodes, cloud, "monitor") as addresses:
        readings = monitor.read_all(addresses, timeout=timeout)
    return dict(zip((node.name for node in nodes), readings, strict=True))


def wait_ready(forest: Forest, cloud: Cloud, *, timeout: float, interval: float) -> Formation:
    """Wait until the forest's servers form what they should and a message passed through them.

    Raises:
        NotReadyError: they do not within *timeout* seconds; says what was seen last.
    """
    deadline = time.monotonic() + timeout
    formation = wait_until(
        f"the {len(forest.staying)} node(s) of {forest.name} to be ready",
        lambda: judge(read_nodes(forest.staying, cloud)),
        lambda verdict: verdict.formed,
        lambda verdict: verdict.reason,
        timeout=timeout,
        interval=interval,
    )
    with client_urls(forest.staying, cloud) as urls:
        took = asyncio.run(admin.probe(urls, timeout=max(1.0, deadline - time.monotonic())))
    log.info("%s: %s; a message passed in %.2f s", forest.name, formation.reason, took)
    return formation


def wait_leader(
    forest: Forest, survivors: Sequence[Node], cloud: Cloud, *, timeout: float, interval: float
) -> None:
    """Wait until the *survivors* of a cluster that lost nodes have a leader and are all current.

    Raises:
        NotReadyError: they are not within *timeout* seconds; says what was seen last.
    """
    wait_until(
        f"the survivors of {forest.name} to agree on a leader",
        lambda: judge(read_nodes(survivors, cloud)),
        lambda verdict: bool(verdict.leader) and verdict.current == len(survivors),
        lambda verdict: ", ".join(f"{name} {state}" for name, state in verdict.states.items()),
        timeout=timeout,
        interval=interval,
    )


def wait_streams(
    forest: Forest, cloud: Cloud, seed: str, lost: Collection[str], *, timeout: float
) -> tuple[str, ...]:
    """Wait until every stream but the *lost* ones answers with all its copies; return those that do not.

    After a restart of several servers each stream elects its leader anew, some seconds after the cluster
    itself has formed; a fresh node copies what its predecessor had.
    """

    def behind() -> tuple[str, ...]:
        with client_urls(forest.staying, cloud) as urls:
            try:
                return asyncio.run(admin.streams(urls, seed)).behind(lost)
            except UnreachableError as error:
                return (str(error),)

    try:
        return wait_until(
            f"the streams of {forest.name}",
            behind,
            lambda late: not late,
            lambda late: f"not complete: {', '.join(late)}",
            timeout=timeout,
            interval=0.1,
        )
    except NotReadyError as error:
        log.warning("%s", error)
        return behind()


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
        return self.reading.cpu / self.reading.cores if self.reading.reachable else None

    @property
    def memory(self) -> int | None:
        return self.reading.memory if self.reading.reachable else None


@dataclass(frozen=True, slots=True)
class Health:
    """A forest as people look at it."""

    forest: Forest
    formation: Formation
    nodes: tuple[NodeHealth, ...]


def examine(forest: Forest, cloud: Cloud, registry_id: str) -> Health:
    """Measure every recorded node of *forest*, all at once; one that is away costs its own time only.

    Where programs cannot be put on machines, what is seen is whether the machines run.
    """
    if not cloud.runs_programs:
        return _machines_only(forest, cloud.list_servers(registry_id, forest.name))
    nodes = forest.staying
    readings = read_nodes([node for node in nodes if node.ip], cloud)
    never = Reading(error="it has no machine yet")
    readings = {node.name: readings.get(node.name, never) for node in nodes}
    gone = [node.name for node in nodes if node.ip and cloud.store(server_of(node)) is StoreState.GONE]
    formation = without_stores(judge(readings), gone) if nodes else Formation(False, "it has no nodes", {})
    rows = []
    for node in nodes:
        machine = machine_of(node, cloud)
        pids = (machine.pid(NATS), machine.pid(WORKLOAD)) if node.ip else (None, None)
        rows.append(NodeHealth(node, formation.states[node.name], readings[node.name], *pids))
    return Health(forest, formation, tuple(rows))


def _machines_only(forest: Forest, servers: Sequence[Server]) -> Health:
    there = {server.name: server.status for server in servers}
    states = {node.name: there.get(node.name, "no machine") for node in forest.staying}
    running = sum(state == Server.RUNNING for state in states.values())
    reason = f"{running} of {len(states)} machines run; what runs on them cannot be seen from here yet"
    if strangers := sorted(there.keys() - {node.name for node in forest.nodes}):
        reason += f"; {', '.join(strangers)} exist without a record"
    formation = Formation(running == len(states) > 0, reason, states)
    nodes = (NodeHealth(node, states[node.name], Reading(), None, None) for node in forest.staying)
    return Health(forest, formation, tuple(nodes))


@contextlib.contextmanager
def client_urls(nodes: Sequence[Node], cloud: Cloud) -> Iterator[list[str]]:
    """Addresses under which the nodes' NATS servers are reachable from here while the block runs."""
    with _reached(nodes, cloud, "client") as addresses:
        yield [f"nats://{config.authority(host, port)}" for host, port in addresses]


@contextlib.contextmanager
def _reached(nodes: Sequence[Node], cloud: Cloud, port: str) -> Iterator[list[tuple[str, int]]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(machine_of(node, cloud).forward(getattr(node.ports, port))) for node in nodes
        ]

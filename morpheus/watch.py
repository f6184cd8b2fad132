"""Looking at a forest through its machines: what is there, what its servers say, is it ready."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from morpheus.cloud import Cloud, Server
from morpheus.errors import MorpheusError, NotReadyError, RefusedError, UnreachableError
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, WORKLOAD, Machine, StoreState
from morpheus.nats import admin, config, greeting, monitor, streams
from morpheus.nats.cluster import Formation, heard, judge
from morpheus.nats.monitor import Reading
from morpheus.plan import Sight
from morpheus.registry.document import Document
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.watch")

AT_ONCE = 10  # machines that are looked at

Way = tuple[str, int] | MorpheusError  # host and port, or why there are none


def machine_of(node: Node, cloud: Cloud) -> Machine:
    """The way onto the machine of a recorded node."""
    return cloud.machine(server_of(node))


def server_of(node: Node) -> Server:
    """The server of a recorded node, as far as the record knows it."""
    return Server(node.name, node.ip or "", {}, node.metadata)


def look(cloud: Cloud, registry_id: str, forest: str, record: Forest | None = None) -> Mapping[str, Sight]:
    """What there is under the forest's names, as the plan wants to know it; all machines at once.

    *record* tells how its machines are entered, where they are not this computer's own.
    """
    known = {node.name: node for node in record.nodes} if record else {}
    servers = [
        _recorded(server, known.get(server.name)) for server in cloud.list_servers(registry_id, forest)
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sights = pool.map(functools.partial(_sight, cloud), servers)
        return dict(zip((server.name for server in servers), sights, strict=True))


def _recorded(server: Server, node: Node | None) -> Server:
    """*server* with what its node's record tells about it."""
    return replace(server, metadata={**node.metadata, **server.metadata}) if node else server


def _sight(cloud: Cloud, server: Server) -> Sight:
    """What is known of *server*; of one that gives no answer nothing says that its store is gone."""
    if not cloud.runs_programs:
        return Sight(cloud.store(server), running=True)
    program = WORKLOAD if Node(server.name, metadata=server.metadata).is_embedded else NATS
    try:
        return Sight(cloud.store(server), running=cloud.machine(server).pid(program) is not None)
    except UnreachableError as error:
        log.info("%s gives no answer now: %s", server.name, error)
        return Sight(StoreState.HELD)


def check_there(document: Document, name: str, cloud: Cloud) -> None:
    """Raise RefusedError when *cloud* has nothing at all of a forest whose record names machines.

    It may be another project: there every machine seems to be gone, while it goes on and costs. The host key
    that a machine is born with is recorded before it is made, its address afterwards.
    """
    forest = document.forests.get(name)
    machines = sum(bool(node.ip or "host_key" in node.metadata) for node in forest.nodes) if forest else 0
    if not machines or cloud.provider == "local":
        return
    registry_id = document.registry_id or ""
    if cloud.list_servers(registry_id, name) or cloud.holdings(registry_id, name):
        return
    raise RefusedError(
        f"{name} has {machines} machine(s) by its record, and this project has nothing of it: use the token "
        "of the project in which it was planted. Nothing was changed. If its machines are gone for certain: "
        f"morpheus teardown {name} --gone"
    )


def read_nodes(
    nodes: Sequence[Node], cloud: Cloud, *, timeout: float = monitor.TIMEOUT
) -> Mapping[str, Reading]:
    """What each node's server says of itself, all asked at once."""
    with _asked(nodes, cloud, timeout=timeout) as ask:
        return ask()


@contextlib.contextmanager
def _asked(
    nodes: Sequence[Node], cloud: Cloud, *, timeout: float = monitor.TIMEOUT
) -> Iterator[Callable[[], Mapping[str, Reading]]]:
    """What asks the *nodes* all at once, as often as it is called; the ways to them stay open meanwhile.

    A server that a workload brings may have no monitoring: then its greeting has to do.
    """
    brought = [node for node in nodes if node.is_embedded]
    with _reached(nodes, cloud, "monitor") as ways, _reached(brought, cloud, "client") as others:

        def ask() -> Mapping[str, Reading]:
            readings = _readings(nodes, ways, functools.partial(monitor.read_all, timeout=timeout))
            mute = [node for node in brought if not readings[node.name].reachable]
            doors = [way for node, way in zip(brought, others, strict=True) if node in mute]
            greetings = _readings(mute, doors, functools.partial(greeting.greet_all, timeout=timeout))
            return {**readings, **greetings}

        yield ask


def _readings(
    nodes: Sequence[Node], ways: Sequence[Way], ask: Callable[[Sequence[tuple[str, int]]], list[Reading]]
) -> dict[str, Reading]:
    """What the *nodes* say, each asked on its way; one without says why there is none."""
    open_ways = [way for way in ways if not isinstance(way, MorpheusError)]
    answers = iter(ask(open_ways) if open_ways else [])
    readings = (Reading(error=str(way)) if isinstance(way, MorpheusError) else next(answers) for way in ways)
    return dict(zip((node.name for node in nodes), readings, strict=True))


def judged(nodes: Sequence[Node], readings: Mapping[str, Reading]) -> Formation:
    """The verdict over what the servers of *nodes* said, whoever brought them."""
    return (heard if any(node.is_embedded for node in nodes) else judge)(readings)


def wait_ready(forest: Forest, cloud: Cloud, seed: str, *, timeout: float, interval: float) -> Formation:
    """Wait until the forest's servers form what they should and a message passed through them.

    Raises:
        NotReadyError: they do not within *timeout* seconds; says what was seen last.
    """
    deadline = time.monotonic() + timeout
    formation = _formation(
        f"the {len(forest.staying)} node(s) of {forest.name} to be ready",
        forest.staying,
        cloud,
        lambda verdict: verdict.formed,
        lambda verdict: verdict.reason,
        timeout=timeout,
        interval=interval,
    )
    took = probed(forest, cloud, seed, timeout=max(1.0, deadline - time.monotonic()))
    log.info("%s: %s; a message passed in %.2f s", forest.name, formation.reason, took)
    return formation


def probed(forest: Forest, cloud: Cloud, seed: str, *, timeout: float, on: str = "") -> float:
    """Have a message pass through the forest's servers, or through the one *on* and another; the seconds.

    Raises:
        NotReadyError: none came through within *timeout* seconds; says which servers are not well then.
    """
    try:
        with client_urls([node for node in forest.staying if node.name != on], cloud) as urls:
            return asyncio.run(admin.probe(urls, seed, timeout=timeout, on=on))
    except NotReadyError as error:
        verdict = judged(forest.staying, read_nodes(forest.staying, cloud))
        if verdict.formed:
            raise
        raise NotReadyError(f"{str(error).rstrip('.')}; by now {verdict.reason}.") from error


def wait_heard(forest: Forest, cloud: Cloud, *, timeout: float, interval: float) -> Formation:
    """Wait until the servers that the workload brings answer well, as far as they tell, and a message passed.

    Raises:
        NotReadyError: they do not within *timeout* seconds; says what was seen last.
    """
    deadline = time.monotonic() + timeout
    formation = _formation(
        f"the workload's servers on the {len(forest.staying)} node(s) of {forest.name}",
        forest.staying,
        cloud,
        lambda verdict: verdict.formed or not verdict.known,
        lambda verdict: verdict.reason,
        timeout=timeout,
        interval=interval,
    )
    with client_urls(forest.staying, cloud) as urls:
        took = asyncio.run(greeting.passed(urls, timeout=max(1.0, deadline - time.monotonic())))
    log.info("%s: %s; a message passed in %.2f s", forest.name, formation.reason, took)
    return formation


def wait_leader(
    forest: Forest, survivors: Sequence[Node], cloud: Cloud, *, timeout: float, interval: float
) -> None:
    """Wait until the *survivors* of a cluster that lost nodes have a leader and are all current.

    Raises:
        NotReadyError: they are not within *timeout* seconds; says what was seen last.
    """
    _formation(
        f"the survivors of {forest.name} to agree on a leader",
        survivors,
        cloud,
        lambda verdict: bool(verdict.leader) and verdict.current == len(survivors),
        lambda verdict: ", ".join(f"{name} {state}" for name, state in verdict.states.items()),
        timeout=timeout,
        interval=interval,
    )


def _formation(  # noqa: PLR0913  # each one is a fact of the wait
    what: str,
    nodes: Sequence[Node],
    cloud: Cloud,
    enough: Callable[[Formation], bool],
    describe: Callable[[Formation], str],
    *,
    timeout: float,
    interval: float,
) -> Formation:
    """Wait until the *nodes* form what is *enough*; the ways to them stay open meanwhile."""
    with _asked(nodes, cloud) as ask:
        return wait_until(
            what,
            lambda: judged(nodes, ask()),
            enough,
            describe,
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
                return asyncio.run(streams.streams(urls, seed)).behind(lost)
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


@contextlib.contextmanager
def client_urls(nodes: Sequence[Node], cloud: Cloud) -> Iterator[list[str]]:
    """Addresses under which the nodes' NATS servers are reachable from here while the block runs."""
    with _reached(nodes, cloud, "client") as ways:
        open_ways = [way for way in ways if not isinstance(way, MorpheusError)]
        for fault in ways:
            if isinstance(fault, MorpheusError) and not open_ways:
                raise fault
        yield [f"nats://{config.authority(host, port)}" for host, port in open_ways]


@contextlib.contextmanager
def _reached(nodes: Sequence[Node], cloud: Cloud, port: str) -> Iterator[list[Way]]:
    """Ways to *port* of the nodes, all opened at once, or why there is none."""
    with ExitStack() as stack:

        def opened(node: Node) -> Way:
            try:
                way = machine_of(node, cloud).forward(getattr(node.ports, port))
                return stack.enter_context(way)
            except (UnreachableError, RefusedError) as error:  # it is away, or another machine
                return error

        with ThreadPoolExecutor(AT_ONCE) as pool:
            ways = list(pool.map(opened, nodes))
        yield ways

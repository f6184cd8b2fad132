"""A node leaves a cluster that goes on, and nothing is lost: its streams move away before it is touched.

Plain calls, no tasks: what takes back a failed expansion needs this, too, where Prefect's server is gone.
What stopped after any step is done by running it again, or by planting again: until the node is taken out of
the records nothing but copies of streams has moved, and afterwards nothing is left on it.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from flows._peers import remove_members
from morpheus.cloud import Cloud
from morpheus.errors import (
    LeaseLostError,
    MachineError,
    MorpheusError,
    UnreachableError,
)
from morpheus.expansion import shrunk
from morpheus.forest import Forest, Node, Status
from morpheus.machine import NATS, WORKLOAD, StoreState
from morpheus.nats import admin, cluster, room, streams
from morpheus.nats.access import Access
from morpheus.nats.monitor import Reading
from morpheus.outfit import Outfit
from morpheus.plan import retired
from morpheus.registry.lease import Hold
from morpheus.settings import ProvisioningSettings
from morpheus.wait import wait_until
from morpheus.watch import client_urls, judged, machine_of, read_nodes, server_of, wait_leader, wait_streams
from tasks.nats import configure

log = logging.getLogger("morpheus.depart")

MOVED = 900.0  # seconds until all streams have moved; they go as fast as disks and network are
SETTLED = 20.0  # seconds until the streams have leaders again after a server has stopped
ANSWERED = 60.0  # seconds until the room of a server that says nothing is taken for enough
ASK_AGAIN = 2.0  # seconds until a server that has streams is told once more to give them away
TRIES = 3  # times that it may get new ones while it stops


@dataclass(frozen=True, slots=True)
class Leaving:
    """A *node* that leaves, and the *rest* of its cluster, which goes on."""

    cloud: Cloud
    hold: Hold
    outfit: Outfit
    access: Access
    node: Node
    rest: Sequence[Node]
    wait: ProvisioningSettings


def depart(cloud: Cloud, hold: Hold, outfit: Outfit, name: str, wait: ProvisioningSettings) -> None:
    """Take the node *name* out of its cluster, then its machine and its record away.

    Raises:
        RefusedError: the others cannot take its streams; nothing was changed.
        NotReadyError: its streams do not move away, or the others are not well without it; it stays then.
        MachineError: the servers cannot move streams, or it gets new ones all the time; it stays, too.
    """
    access, node = outfit.access, hold.forest.node(name)
    assert access  # what workloads bring is theirs
    counted = members(hold.forest, cloud)
    if name not in counted:  # it may be about to come
        silence(cloud, hold, node)
        counted = members(hold.forest, cloud)
    if name in counted:
        rest = [each for each in hold.forest.staying if each.name in counted and each.name != name]
        leaving = Leaving(cloud, hold, outfit, access, node, rest, wait)
        _give_away(leaving)
        remove_members(cloud, hold, access, (name,), rest)
        _agreed(leaving)
    discard(cloud, hold, outfit, name)


def discard(cloud: Cloud, hold: Hold, outfit: Outfit | None, name: str) -> None:
    """Remove what is left of a node that belongs to no cluster: routes to it, its address, its machine.

    (What is unfinished is configured by the run that goes on with it.)
    """
    if not hold.forest.node(name).leaving:
        hold.update(lambda forest, _: retired(forest, (name,)) if forest else None)
    rest = [each for each in hold.forest.staying if each.ip]
    if outfit:
        for each in rest:
            if each.status == Status.ACTIVE:
                configure.fn(each, hold.forest, cloud, outfit, hold)
    hold.check()
    cloud.admit(
        hold.registry_id,
        hold.forest.name,
        [server_of(each) for each in rest],
        [server_of(each) for each in hold.forest.nodes if each.ip and each.leaving],
    )
    hold.check()
    cloud.delete_server(hold.registry_id, name)
    hold.update(lambda forest, _: shrunk(forest, name) if forest else None)
    log.info("%s: gone", name)


def members(forest: Forest, cloud: Cloud) -> frozenset[str]:
    """The nodes that the cluster of *forest* counts.

    Raises:
        NotReadyError: nobody leads it, so nobody knows.
    """
    placed = [node for node in forest.nodes if node.ip]

    def known() -> frozenset[str]:
        readings = read_nodes(placed, cloud)
        leader = judged(placed, readings).leader
        return cluster.members(readings, leader) if leader else frozenset()

    return wait_until(
        f"the cluster of {forest.name} to have a leader",
        known,
        bool,
        lambda _: "nobody leads it",
        timeout=SETTLED,
        interval=0.2,
    )


def silence(cloud: Cloud, hold: Hold, node: Node) -> None:
    """Stop what runs on the machine of *node*; one that cannot be entered goes at once."""
    hold.check()
    machine = machine_of(node, cloud)
    try:
        machine.stop(WORKLOAD)
        machine.stop(NATS)
    except UnreachableError as error:
        log.warning("%s cannot be entered, so its machine goes first: %s", node.name, error)
        cloud.delete_server(hold.registry_id, node.name)


def _give_away(leaving: Leaving) -> None:
    """Stop the server of *node* with no stream left on it.

    One that is told to give its streams away still gets new ones until it has stopped, so it is looked for
    them once more then; if there are some it is started again. So it is, too, when an earlier run stopped it
    and may have ended before it looked.
    """
    cloud, hold, node = leaving.cloud, leaving.hold, leaving.node
    for k in range(TRIES):
        _wake(leaving)
        _empty(leaving, untouched=k == 0)
        hold.update(lambda forest, _: retired(forest, (node.name,)) if forest else None)
        _step_down(leaving)
        silence(cloud, hold, node)
        log.info("%s: stopped, with no stream on it", node.name)
        if not (late := wait_streams(hold.forest, cloud, leaving.access.app_seed, (), timeout=SETTLED)):
            return
        log.warning("%s: it got %s while it stopped, and starts again", node.name, ", ".join(late))
    raise MachineError(f"{node.name} gets new streams as fast as it gives them away, so it stays: try again.")


def _wake(leaving: Leaving) -> None:
    """Have its server run, which may hold streams; never on a store that is gone."""
    cloud, hold, node = leaving.cloud, leaving.hold, leaving.node
    hold.check()
    try:
        if cloud.store(server_of(node)) is StoreState.HELD:
            machine = machine_of(node, cloud)
            machine.start(leaving.outfit.server(hold.forest, node, machine.layout))
    except UnreachableError as error:
        log.warning("%s cannot be entered: %s", node.name, error)


def _empty(leaving: Leaving, *, untouched: bool) -> None:
    """Wait until no stream has a copy on it, and all are complete elsewhere.

    Raises:
        RefusedError: they never will, as it was found while all was *untouched*.
    """
    cloud, hold, access = leaving.cloud, leaving.hold, leaving.access
    node, rest = leaving.node, leaving.rest
    began, asked = time.monotonic(), float("-inf")
    with client_urls(rest, cloud) as urls:
        asyncio.run(admin.remove_probes(urls, access.app_seed))  # which are bound to their nodes

    def allowed(seen: streams.Streams) -> str:
        """Why nobody can tell yet whether the others have room for what it holds; empty once they may."""
        if seen.missing:
            return f"{', '.join(seen.missing)} did not answer"
        there = read_nodes(rest, cloud)
        if mute := [name for name, reading in there.items() if not reading.known]:
            if time.monotonic() - began < ANSWERED:
                return f"{', '.join(mute)} did not answer"
            log.warning("%s did not say how much room they have", ", ".join(mute))
        room.check(node.name, seen, there)
        return ""

    def left() -> tuple[str, ...]:
        nonlocal asked
        with client_urls(rest, cloud) as urls:
            try:
                seen = asyncio.run(streams.streams(urls, access.app_seed))
            except UnreachableError as error:
                return (str(error),)
            there = seen.on(node.name)
            reading = read_nodes([node], cloud)[node.name]
            if (there or reading.streams) and time.monotonic() - asked >= ASK_AGAIN:
                if untouched and asked == float("-inf") and (unknown := allowed(seen)):
                    return (unknown,)
                hold.check()
                asyncio.run(admin.evacuate(urls, access.system_seed, node.name))
                asked = time.monotonic()
        held = (f"{reading.streams} on its disk",) if reading.streams and not there else ()
        return tuple(dict.fromkeys((*there, *seen.behind(), *held)))

    wait_until(
        f"the streams on {node.name} to move away",
        left,
        lambda names: not names,
        lambda names: f"not yet: {', '.join(names)}",
        timeout=MOVED,
        interval=0.1,
    )


def _step_down(leaving: Leaving) -> None:
    """Have one of the rest lead the cluster, if it does."""
    cloud, hold, wait = leaving.cloud, leaving.hold, leaving.wait
    node, rest = leaving.node, leaving.rest
    if not read_nodes([node], cloud)[node.name].leads:
        return
    hold.check()
    with client_urls(rest, cloud) as urls:
        asyncio.run(admin.step_down(urls, leaving.access.system_seed))
    wait_leader(hold.forest, rest, cloud, timeout=wait.readiness_timeout, interval=wait.readiness_interval)


def _agreed(leaving: Leaving) -> None:
    """Wait until the rest agrees that it is none of them, and a message passed through them."""
    cloud, hold, node, rest = leaving.cloud, leaving.hold, leaving.node, leaving.rest
    bound, interval = leaving.wait.readiness_timeout, leaving.wait.readiness_interval

    def counted() -> bool:
        readings = read_nodes(rest, cloud)
        leader = judged(rest, readings).leader
        return not leader or node.name in cluster.members({**readings, node.name: Reading()}, leader)

    wait_until(
        f"the cluster to count {node.name} no more",
        counted,
        lambda still: not still,
        lambda _: "it does, or nobody leads it",
        timeout=bound,
        interval=interval,
    )
    wait_leader(hold.forest, rest, cloud, timeout=bound, interval=interval)
    with client_urls(rest, cloud) as urls:
        asyncio.run(admin.probe(urls, leaving.access.app_seed, timeout=bound))


def take_out(
    cloud: Cloud, hold: Hold, outfit: Outfit | None, names: Sequence[str], wait: ProvisioningSettings
) -> None:
    """Take the nodes *names* of a failed expansion out again; one that cannot be stays, which is told."""
    forest = hold.forest.name
    for name in reversed(names):
        node = hold.forest.node(name)
        try:
            if node.ip is None or outfit is None or outfit.access is None:
                discard(cloud, hold, outfit, name)
            else:
                depart(cloud, hold, outfit, name, wait)
        except LeaseLostError:
            raise
        except MorpheusError as error:
            log.warning(
                "%s stays, for it could not be taken out again (%s) It is recorded and may cost: morpheus "
                "grow %s goes on with it, morpheus node remove %s %s tries again",
                *(name, error, forest, forest, node.label),
            )

"""Proving a forest: the cluster formed, a message passed, its streams complete, its workload running."""

import logging

from flows._machines import Ground, bring_up, same
from flows._peers import remove_peers
from morpheus.errors import NotReadyError
from morpheus.forest import Forest, Node, Status
from morpheus.nats.cluster import CURRENT, members
from morpheus.outfit import Outfit
from morpheus.plan import replaced
from morpheus.watch import judged, read_nodes
from tasks._retry import all_or_raise
from tasks.nats import (
    await_streams,
    bring_workload,
    carry,
    restart_workload,
    start_workload,
    verify_cluster,
    verify_servers,
)
from tasks.registry import record

log = logging.getLogger("morpheus.plant")


def verify(ground: Ground, outfit: Outfit) -> None:
    """The cluster is formed; nodes of this run that never come to it are replaced once by fresh ones."""
    hold, cloud, wait = ground.hold, ground.cloud, ground.wait
    bounds = (wait.readiness_timeout, wait.readiness_interval)
    access = outfit.access
    if access is None:
        verify_servers(hold.forest, cloud, *bounds)
        return
    try:
        verify_cluster(hold.forest, cloud, access, *bounds)
    except NotReadyError as error:
        late = latecomers(ground)
        if not late:
            raise
        log.warning("%s: fresh nodes take the place of %s: %s", hold.forest.name, ", ".join(late), error)
        fresh = hold.forest.fresh_names(len(late))
        price = cloud.price()
        record(
            "replacement", hold, lambda forest, now: replaced(forest, late, fresh, (), ground.run, now, price)
        )
        remove_peers(cloud, hold, late, access)
        bring_up(ground, fresh)
        verify_cluster(hold.forest, cloud, access, *bounds)


def latecomers(ground: Ground) -> tuple[str, ...]:
    """The nodes of this run that are not in the cluster, while a majority is; none that may hold data."""
    if not ground.cloud.needs_key:
        return ()  # a process of this computer that does not come will not come under another name either
    forest = ground.hold.forest
    nodes = forest.staying
    readings = read_nodes(nodes, ground.cloud)
    verdict = judged(nodes, readings)
    late = [node for node in nodes if verdict.states[node.name] != CURRENT]
    if not verdict.leader or 2 * len(late) >= len(nodes):
        return ()
    # In a forest that this run brought forth nobody can have written yet, for its workload starts after this.
    newborn = forest.run == ground.run and forest.status == Status.PROVISIONING
    known = members(readings, verdict.leader)
    joined = [node for node in late if node.name in known or node.run != ground.run]
    return () if joined and not newborn else tuple(node.name for node in late)


def prove(ground: Ground, outfit: Outfit, *, healed: bool) -> None:
    """The cluster is formed, the streams of a *healed* one are complete, and the workload runs."""
    hold, wait, access = ground.hold, ground.wait, outfit.access
    verify(ground, outfit)
    if access:
        for node in added_to(hold.forest):  # one after the other: each clears the probes of others away
            carry(node, hold.forest, ground.cloud, access, wait.readiness_timeout)
    if healed and access:
        lost = hold.forest.lost_streams
        await_streams(hold.forest, ground.cloud, access, lost, wait.readiness_timeout)
    if outfit.has_workload:
        employ(ground, outfit)


def added_to(forest: Forest) -> tuple[Node, ...]:
    """The nodes by which *forest* grows."""
    if forest.status != Status.GROWING:
        return ()
    return tuple(node for node in forest.staying if node.status == Status.PROVISIONING)


def employ(ground: Ground, outfit: Outfit) -> None:
    """The workload runs on every node; where it changed it is started anew, one node after another."""
    every, facts = ground.hold.forest.staying, (ground.hold.forest, ground.cloud, outfit, ground.hold)
    stale = all_or_raise(bring_workload.map(every, *same(*facts)))
    for node, is_old in zip(every, stale, strict=True):
        if is_old:
            restart_workload(node, *facts)
            verify(ground, outfit)
    all_or_raise(start_workload.map(every, *same(*facts)))

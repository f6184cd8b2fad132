"""Nodes that are leaving stay while others that lost their stores are replaced.

Until they have given all away they hold streams that nobody else has, and the cluster counts them: without
them the rest may have no majority. They leave once it is whole again.
"""

import logging
from collections.abc import Sequence

from flows._departure import members, silence
from flows._machines import Ground, bring_up
from morpheus.cloud import Cloud
from morpheus.errors import NotReadyError
from morpheus.expansion import recalled
from morpheus.forest import Node
from morpheus.machine import StoreState
from morpheus.outfit import Outfit
from morpheus.plan import Sight, check_majority, lost
from morpheus.registry.lease import Hold
from morpheus.watch import machine_of
from tasks.servers import observe

log = logging.getLogger("morpheus.heal")


def recall(ground: Ground) -> tuple[str, ...]:
    """The nodes that were leaving and are recorded as staying again; those that the cluster forgot are gone.

    Raises:
        RefusedError: with them, too, no majority holds its stores.
        NotReadyError: nobody leads the cluster.
    """
    hold, cloud, outfit = ground.hold, ground.cloud, ground.outfit
    if outfit is None or outfit.access is None:
        return ()  # what workloads bring is theirs
    seen = observe(cloud, hold.registry_id, hold.forest.name, hold.forest)
    leaving = [node for node in hold.forest.nodes if node.leaving]
    held = [node for node in leaving if seen.get(node.name, Sight()).store is StoreState.HELD]
    gone = lost(hold.forest, seen)
    if not held or not gone:
        return ()
    check_majority(recalled(hold.forest, *(node.name for node in held)), seen)
    stopped = (node.name for node in hold.forest.staying if node.ip and node.name not in gone)
    bring_up(ground, tuple(name for name in stopped if not seen.get(name, Sight()).running), without=gone)
    counted = members_with(held, ground.cloud, hold, outfit)
    back = tuple(node.name for node in held if node.name in counted)
    for node in held:
        if node.name not in counted:
            forget(node, cloud, hold)
    if back:
        hold.update(lambda forest, _: recalled(forest, *back) if forest else None)
        log.info("%s stay(s) until what lost its store is replaced: %s", ", ".join(back), ", ".join(gone))
    return back


def members_with(held: Sequence[Node], cloud: Cloud, hold: Hold, outfit: Outfit) -> frozenset[str]:
    """The nodes that the cluster counts; the servers of *held* are started where nobody leads without them.

    (If it had forgotten them, the rest would have a majority.)
    """
    try:
        return members(hold.forest, cloud)
    except NotReadyError:
        for node in held:
            hold.check()
            machine = machine_of(node, cloud)
            machine.start(outfit.server(hold.forest, node, machine.layout))
        return members(hold.forest, cloud)


def forget(node: Node, cloud: Cloud, hold: Hold) -> None:
    """Remove the machine of a node that the cluster has forgotten; who is left is configured later."""
    silence(cloud, hold, node)
    hold.check()
    cloud.delete_server(hold.registry_id, node.name)
    hold.update(lambda forest, _: forest.without(node.name) if forest else None)
    log.info("%s: gone", node.name)

"""Servers: one idempotent call of the cloud per task, so that every task may be run again."""

import logging
from collections.abc import Mapping

from prefect import task

from morpheus.cloud import Cloud, Order, Server
from morpheus.errors import RefusedError
from morpheus.forest import Forest
from morpheus.plan import Sight
from morpheus.registry.lease import Hold
from morpheus.watch import look
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.tasks")


@task(task_run_name="observe-{forest}", **RETRYING)
def observe(cloud: Cloud, registry_id: str, forest: str, record: Forest | None = None) -> Mapping[str, Sight]:
    """Return what there is under the forest's names; *record* tells how its machines are entered."""
    return look(cloud, registry_id, forest, record)


@task(task_run_name="list-{forest}", **RETRYING)
def list_servers(cloud: Cloud, registry_id: str, forest: str) -> tuple[str, ...]:
    """Return the names of the servers of *forest* that are there."""
    return tuple(server.name for server in cloud.list_servers(registry_id, forest))


@task(task_run_name="ensure-{order.name}", **RETRYING)
def ensure_server(order: Order, cloud: Cloud, hold: Hold) -> Server:
    """Return the server of *order*, creating it when absent."""
    hold.check()
    server = cloud.ensure_server(order)
    log.info("%s: machine at %s, port %s", server.name, server.ip, server.metadata.get("client_port", 4222))
    return server


@task(task_run_name="delete-{name}", **RETRYING)
def delete_server(name: str, cloud: Cloud, hold: Hold) -> None:
    """Return when the server *name* of ours is gone; another one's of that name stays.

    Raises:
        RefusedError: the forest had a server of that name, and it is another one's now.
    """
    hold.check()
    try:
        cloud.delete_server(hold.registry_id, name)
    except RefusedError as error:
        if any(node.name == name and node.ip for node in hold.forest.nodes):
            raise
        log.warning("%s", error)
        return
    log.info("%s: gone", name)


@task(task_run_name="admit-{hold.forest.name}", **RETRYING)
def admit(
    cloud: Cloud, hold: Hold, nodes: tuple[Server, ...], leaving: tuple[Server, ...] = ()
) -> tuple[Server, ...]:
    """Let *nodes* reach each other and be found, and none that was before; return them as to be recorded.

    Those that are *leaving* are entered still.
    """
    hold.check()
    admitted = tuple(cloud.admit(hold.registry_id, hold.forest.name, nodes, leaving))
    if names := [server.metadata["dns"] for server in admitted if "dns" in server.metadata]:
        log.info("%s: found at %s", hold.forest.name, ", ".join(names))
    return admitted


@task(task_run_name="clear-{hold.forest.name}", **RETRYING)
def clear(cloud: Cloud, hold: Hold) -> None:
    """Remove what the forest's servers shared, now that they are gone."""
    hold.check()
    cloud.clear(hold.registry_id, hold.forest.name)

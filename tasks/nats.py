"""NATS on the nodes: configure, start, prove."""

import logging

from prefect import task

from morpheus.cloud import Cloud
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, WORKLOAD, Program
from morpheus.nats import config
from morpheus.nats.access import Access
from morpheus.nats.cluster import Formation
from morpheus.registry.lease import Hold
from morpheus.watch import machine_of, wait_ready, wait_streams
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.tasks")


@task(task_run_name="configure-{node.name}", **RETRYING)
def configure(node: Node, forest: Forest, cloud: Cloud, access: Access, hold: Hold) -> None:
    """Deliver the node's configuration, and have a running server read it again when it changed."""
    hold.check()
    machine = machine_of(node, cloud)
    files = config.render(forest, node, machine.layout, access, listen=node.ip or "127.0.0.1")
    changed = [
        machine.put(machine.layout.config, files.nats.encode()),
        machine.put(machine.layout.cluster, files.cluster.encode()),
    ]
    if any(changed) and machine.pid(NATS):
        machine.reload(NATS)
        log.info("%s: told to read its changed configuration", node.name)


@task(task_run_name="start-{node.name}", **RETRYING)
def start_nats(node: Node, forest: Forest, cloud: Cloud, binary: str, hold: Hold) -> None:
    """Start the node's NATS server unless it runs."""
    hold.check()
    machine = machine_of(node, cloud)
    standalone = config.is_standalone(forest)
    machine.start(config.server_program(binary, node, machine.layout, standalone=standalone))
    log.info("%s: nats-server runs as pid %s", node.name, machine.pid(NATS))


@task(task_run_name="workload-{node.name}", **RETRYING)
def start_workload(node: Node, forest: Forest, cloud: Cloud, binary: str, hold: Hold) -> None:
    """Start the workload beside the node's server, which knows its node's NATS_URL and no more."""
    hold.check()
    machine = machine_of(node, cloud)
    env = {"NATS_URL": f"nats://localhost:{node.ports.client}", "FOREST_ID": forest.name}
    machine.start(Program(WORKLOAD, (binary,), env))
    log.info("%s: the workload runs as pid %s", node.name, machine.pid(WORKLOAD))


@task(task_run_name="verify-{forest.name}", **RETRYING)
def verify_cluster(forest: Forest, cloud: Cloud, timeout: float, interval: float) -> Formation:
    """Wait until the forest is ready: formed as its leader sees it, and a message passed through."""
    return wait_ready(forest, cloud, timeout=timeout, interval=interval)


@task(task_run_name="streams-{forest.name}", **RETRYING)
def await_streams(
    forest: Forest, cloud: Cloud, access: Access, lost: tuple[str, ...], timeout: float
) -> tuple[str, ...]:
    """Wait until the streams of a healed forest are complete again; return those that are not in time."""
    return wait_streams(forest, cloud, access.app_seed, lost, timeout=timeout)

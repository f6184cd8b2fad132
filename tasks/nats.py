"""NATS on the nodes: configure, start, prove."""

import logging

from prefect import task

from morpheus.cloud import Cloud
from morpheus.embedded import brought
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, WORKLOAD, Machine, is_stale
from morpheus.nats.access import Access
from morpheus.nats.cluster import Formation
from morpheus.outfit import File, Outfit
from morpheus.registry.lease import Hold
from morpheus.watch import machine_of, probed, read_nodes, wait_heard, wait_ready, wait_streams
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.tasks")


@task(task_run_name="configure-{node.name}", **RETRYING)
def configure(node: Node, forest: Forest, cloud: Cloud, outfit: Outfit, hold: Hold) -> bool:
    """Deliver the node's configuration; return whether a running server has to be started anew.

    What changes with the forest is read again at once. What is the node's own (where it listens, and what it
    asks of those who come) NATS takes at its start alone: it is delivered then, so that a run that ends
    before is completed by the next. A server that could not write once does not try again, either.
    """
    hold.check()
    machine = machine_of(node, cloud)
    files = outfit.files(forest, node, machine.layout, machine.read)
    runs = machine.pid(NATS) is not None
    later = [file for file in files if runs and _waits(file, machine)]
    changed = [put(machine, file) for file in files if file not in later]
    if any(changed) and runs:
        machine.reload(NATS)
        log.info("%s: told to read its changed configuration", node.name)
    return bool(later) or (runs and read_nodes([node], cloud)[node.name].gave_up)


def _waits(file: File, machine: Machine) -> bool:
    """Whether *file* is another than a server reads that runs on *machine*, and must not be read again."""
    return file.path == machine.layout.config and machine.read(file.path) != file.content


def put(machine: Machine, file: File) -> bool:
    return machine.put(file.path, file.content, mode=file.mode)


@task(task_run_name="restart-{node.name}", **RETRYING)
def restart_nats(node: Node, forest: Forest, cloud: Cloud, outfit: Outfit, hold: Hold) -> None:
    """Start the node's NATS server anew, with its configuration as it is to be."""
    hold.check()
    machine = machine_of(node, cloud)
    machine.stop(NATS)
    for file in outfit.files(forest, node, machine.layout, machine.read):
        put(machine, file)
    machine.start(outfit.server(forest, node, machine.layout))
    log.info("%s: nats-server started anew", node.name)


@task(task_run_name="start-{node.name}", **RETRYING)
def start_nats(node: Node, forest: Forest, cloud: Cloud, outfit: Outfit, hold: Hold) -> None:
    """Start the node's NATS server unless it runs."""
    hold.check()
    machine = machine_of(node, cloud)
    program = outfit.server(forest, node, machine.layout)
    machine.start(program)
    log.info("%s: %s runs as pid %s", node.name, program.argv[0], machine.pid(program.name))


@task(task_run_name="bring-workload-{node.name}", **RETRYING)
def bring_workload(node: Node, forest: Forest, cloud: Cloud, outfit: Outfit, hold: Hold) -> bool:
    """Bring the workload onto the node's machine; return whether an earlier one runs there."""
    hold.check()
    machine = machine_of(node, cloud)
    for program in outfit.workload_files(node):
        if brought(outfit, node, machine, program):
            log.info("%s: %s installed", node.name, program.path)
    return is_stale(machine, outfit.workload(forest, node))


@task(task_run_name="restart-workload-{node.name}", **RETRYING)
def restart_workload(node: Node, forest: Forest, cloud: Cloud, outfit: Outfit, hold: Hold) -> None:
    """Start the node's workload anew, as it is to be."""
    hold.check()
    machine = machine_of(node, cloud)
    machine.stop(WORKLOAD)
    machine.start(outfit.workload(forest, node))
    log.info("%s: the workload changed, and runs anew as pid %s", node.name, machine.pid(WORKLOAD))


@task(task_run_name="workload-{node.name}", **RETRYING)
def start_workload(node: Node, forest: Forest, cloud: Cloud, outfit: Outfit, hold: Hold) -> None:
    """Start the workload beside the node's server, which knows its node's NATS_URL and no more."""
    hold.check()
    machine = machine_of(node, cloud)
    machine.start(outfit.workload(forest, node))
    log.info("%s: the workload runs as pid %s", node.name, machine.pid(WORKLOAD))


@task(task_run_name="verify-{forest.name}", **RETRYING)
def verify_cluster(
    forest: Forest, cloud: Cloud, access: Access, timeout: float, interval: float
) -> Formation:
    """Wait until the forest is ready: formed as its leader sees it, and a message passed through."""
    return wait_ready(forest, cloud, access.app_seed, timeout=timeout, interval=interval)


@task(task_run_name="verify-{forest.name}", **RETRYING)
def verify_servers(forest: Forest, cloud: Cloud, timeout: float, interval: float) -> Formation:
    """Wait until the servers that the workload brings answer, and a message passed between them."""
    return wait_heard(forest, cloud, timeout=timeout, interval=interval)


@task(task_run_name="carry-{node.name}", **RETRYING)
def carry(node: Node, forest: Forest, cloud: Cloud, access: Access, timeout: float) -> None:
    """Wait until *node* has stored a message in a stream of its own, which another one read."""
    took = probed(forest, cloud, access.app_seed, timeout=timeout, on=node.name)
    log.info("%s: it stored a message after %.2f s", node.name, took)


@task(task_run_name="streams-{forest.name}", **RETRYING)
def await_streams(
    forest: Forest, cloud: Cloud, access: Access, lost: tuple[str, ...], timeout: float
) -> tuple[str, ...]:
    """Wait until the streams of a healed forest are complete again; return those that are not in time."""
    return wait_streams(forest, cloud, access.app_seed, lost, timeout=timeout)

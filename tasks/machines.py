"""Machines elsewhere: what they share is made, they are entered, made ours, and given their programs."""

import logging
from collections.abc import Callable

from prefect import task

from morpheus.cloud import Cloud
from morpheus.embedded import brought
from morpheus.forest import Node
from morpheus.machine import bootstrap
from morpheus.outfit import MachineOutfit, Outfit
from morpheus.registry.lease import Hold
from morpheus.watch import machine_of
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.tasks")


@task(task_run_name="prepare-{part}", **RETRYING)
def prepare(part: str, make: Callable[[], object], hold: Hold) -> None:
    """Make sure of one *part* of what the servers of a forest share."""
    hold.check()
    make()
    log.info("%s: %s ready", hold.forest.name, part)


@task(task_run_name="enter-{node.name}", **RETRYING)
def enter(node: Node, cloud: Cloud, timeout: float) -> None:
    """Wait until the node's machine lets us in and has ended its birth well."""
    machine_of(node, cloud).enter(timeout)
    log.info("%s: entered", node.name)


@task(task_run_name="bootstrap-{node.name}", **RETRYING)
def run_script(node: Node, cloud: Cloud, outfit: MachineOutfit, hold: Hold, timeout: float) -> None:
    """Run the operator's script on the node's machine, which is new, unless that has been done."""
    hold.check()
    if outfit.script and bootstrap.run_once(machine_of(node, cloud), outfit.script, timeout=timeout):
        log.info("%s: %s ran", node.name, bootstrap.SETTING)


@task(task_run_name="make-host-key-{node.name}", **RETRYING)
def make_host_key(node: Node, cloud: Cloud, hold: Hold) -> str:
    """Return the public half of the host key that the machine made for itself, in the birth key's place."""
    hold.check()
    return machine_of(node, cloud).make_host_key()


@task(task_run_name="take-host-key-{node.name}", **RETRYING)
def take_host_key(node: Node, cloud: Cloud, hold: Hold) -> None:
    """Have the machine show its own host key alone, prove that, and remove the birth key from it."""
    hold.check()
    machine_of(node, cloud).take_host_key()
    log.info("%s: shows a host key of its own", node.name)


@task(task_run_name="install-{node.name}", **RETRYING)
def install(node: Node, cloud: Cloud, outfit: Outfit, hold: Hold) -> None:
    """Bring the node's programs onto its machine, as they are to be."""
    hold.check()
    machine = machine_of(node, cloud)
    for program in outfit.programs(node):
        if brought(outfit, node, machine, program):
            log.info("%s: %s installed", node.name, program.path)

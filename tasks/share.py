"""The home of an embedded forest in the Storage Box: made, written, looked into by its nodes, removed."""

import logging
from collections.abc import Callable
from dataclasses import replace

from prefect import task

from morpheus.cloud import Cloud
from morpheus.forest import Forest, Node
from morpheus.founding import new_password
from morpheus.machine import share
from morpheus.machine.share import Share
from morpheus.registry.lease import Hold
from morpheus.registry.part import part_of
from morpheus.secrets import ForestSecrets
from morpheus.shelf import Shelf
from morpheus.vault import Vault
from morpheus.watch import machine_of
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.tasks")


@task(task_run_name="share-{hold.forest.name}", **RETRYING)
def make_share(shelf: Shelf, vault: Vault, hold: Hold) -> Share:
    """Return the forest's home as its nodes open it; its password stands in the secrets before it is made."""
    hold.check()

    def with_password(known: ForestSecrets) -> ForestSecrets:
        password = known.subaccount_password or new_password().get_secret_value()
        return replace(known, subaccount_password=password)

    password = vault.change(hold.forest, with_password).subaccount_password
    assert password
    return shelf.share(hold.forest.name, password)


@task(task_run_name="publish-{forest.name}", **RETRYING)
def publish_part(forest: Forest, shelf: Shelf, hold: Hold) -> None:
    """Write into the forest's home what its nodes may know of the registry."""
    hold.check()
    shelf.publish(forest.name, part_of(forest).encode())
    log.info("%s: its part of the registry is published", forest.name)


@task(task_run_name="take-{node.name}", **RETRYING)
def take_part(node: Node, forest: Forest, cloud: Cloud, hold: Hold, timeout: float) -> None:
    """Wait until the node's machine has what was published for its forest."""
    hold.check()
    share.take(machine_of(node, cloud), part_of(forest).encode(), timeout=timeout)
    log.info("%s: knows its forest's part of the registry", node.name)


@task(task_run_name="clear-share-{hold.forest.name}", **RETRYING)
def clear_share(find: Callable[[], Shelf | None], hold: Hold) -> None:
    """Remove the forest's home, which nobody reads any more, from the shelf that *find* finds, if any."""
    if shelf := find():
        hold.check()
        shelf.clear(hold.forest.name)

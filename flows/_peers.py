"""Replacing lost nodes of a living cluster: what is at stake, and the removal of their peers."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial

from morpheus.cloud import Cloud
from morpheus.errors import MorpheusError, RefusedError, UnreachableError
from morpheus.forest import Node
from morpheus.machine import NATS, Machine
from morpheus.nats import admin, streams
from morpheus.nats.access import Access
from morpheus.registry.lease import Hold
from morpheus.settings import ProvisioningSettings
from morpheus.wait import wait_until
from morpheus.watch import client_urls, machine_of, wait_leader
from tasks._retry import all_or_raise
from tasks.registry import record
from tasks.servers import delete_server

log = logging.getLogger("morpheus.heal")

CHANGED = 60.0  # seconds for a cluster to change its members


def streams_at_stake(
    cloud: Cloud, hold: Hold, leaving: tuple[str, ...], access: Access, wait: ProvisioningSettings
) -> tuple[str, ...]:
    """Return the streams that only the nodes *leaving* had, once the survivors have a leader again.

    A node whose files are gone may still run on them, and even lead. It is stopped only when nothing is found
    that speaks against it: what it holds in open files is gone with it.

    Raises:
        RefusedError: a stream with copies elsewhere lost so many that the rest may lack messages.
    """
    forest = hold.forest
    survivors = [node for node in forest.staying if node.ip and node.name not in leaving]
    if not survivors:
        return ()  # those that leave never got ready, and there is no cluster yet

    def ask() -> streams.AtRisk:
        with client_urls(survivors, cloud) as urls:
            names = [node.name for node in survivors]
            risk = asyncio.run(streams.at_risk(urls, access.app_seed, access.system_seed, names))
        refuse_weakened(risk, leaving)
        return risk

    there = list(answering([node for node in forest.nodes if node.name in leaving and node.ip], cloud))
    if any(pid is not None for _, _, pid in there):
        with contextlib.suppress(UnreachableError):  # without a leader nobody knows yet
            ask()
    for _, machine, _ in there:
        hold.check()
        machine.stop(NATS)
    wait_leader(forest, survivors, cloud, timeout=wait.readiness_timeout, interval=wait.readiness_interval)

    def told() -> streams.AtRisk | str:
        try:
            return ask()
        except UnreachableError as error:  # a leader that has only just been chosen may not answer yet
            return str(error)

    risk = wait_until(
        f"the streams of {forest.name} to have leaders among the survivors",
        told,
        lambda risk: not isinstance(risk, str) and not risk.leaderless,
        lambda risk: risk if isinstance(risk, str) else f"none yet: {', '.join(risk.leaderless)}",
        timeout=wait.readiness_timeout,
        interval=0.1,
    )
    assert not isinstance(risk, str)
    gone = ", ".join(leaving)
    for stream in risk.lost:
        log.warning("%s: the stream %s had its only copy on %s: lost", forest.name, stream, gone)
    return risk.lost


def answering(nodes: Sequence[Node], cloud: Cloud) -> Iterator[tuple[Node, Machine, int | None]]:
    """Those of *nodes* whose machines let us in, each with its machine and the process id of its server.

    The others are gone, or go with their servers: nothing that still runs there can be stopped before.
    """
    for node in nodes:
        try:
            machine = machine_of(node, cloud)
            yield node, machine, machine.pid(NATS)
        except MorpheusError as error:
            log.info("%s cannot be entered any more: %s", node.name, error)


def refuse_weakened(risk: streams.AtRisk, leaving: tuple[str, ...]) -> None:
    """Raise RefusedError when streams have copies left of which none may be complete."""
    if risk.weakened:
        raise RefusedError(
            f"Without {', '.join(leaving)} the stream(s) {', '.join(risk.weakened)} have a copy left, but no "
            "majority of their copies: to replace the nodes could delete acknowledged messages, so nothing "
            "was removed. Put the folders back, if they were copied after the servers last stopped, and "
            "plant again; docs/recovery.md shows how to rescue the rest."
        )


def remove_peers(cloud: Cloud, hold: Hold, leaving: tuple[str, ...], access: Access | None) -> None:
    """Take *leaving* out of the cluster, then whatever is left of their machines, then their records.

    Their servers are silent before: one that connects once more after it was taken out counts again.
    """
    survivors = [node for node in hold.forest.staying if node.ip]
    if access and survivors:
        silence(cloud, hold, leaving)
        remove_members(cloud, hold, access, leaving, survivors)
    all_or_raise([delete_server.submit(name, cloud, hold) for name in leaving])
    record("departure", hold, lambda forest, _: forest.without(*leaving))


def remove_members(
    cloud: Cloud, hold: Hold, access: Access, leaving: Sequence[str], rest: Sequence[Node]
) -> None:
    """Take *leaving* out of the cluster of the *rest*, one after another: it changes its members so.

    Raises:
        NotReadyError: it still changes, or has nobody who leads it.
    """
    with client_urls(rest, cloud) as urls:

        def hindrance(name: str) -> str:
            hold.check()
            try:
                asyncio.run(admin.remove_peer(urls, access.system_seed, name))
            except UnreachableError as error:
                return str(error)
            return ""

        for name in leaving:
            wait_until(
                f"the cluster to let {name} go",
                partial(hindrance, name),
                lambda said: not said,
                str,
                timeout=CHANGED,
                interval=0.2,
            )
            log.info("%s: removed from the cluster", name)


def silence(cloud: Cloud, hold: Hold, names: tuple[str, ...]) -> None:
    """Stop the servers on the machines *names*; a machine that cannot be entered goes at once."""
    there = {server.name for server in cloud.list_servers(hold.registry_id, hold.forest.name)}
    shut = []
    for node in hold.forest.nodes:
        if node.name not in names or node.name not in there:
            continue
        hold.check()
        try:
            machine_of(node, cloud).stop(NATS)
        except MorpheusError as error:
            log.warning("%s cannot be entered, so its machine goes first: %s", node.name, error)
            shut.append(node.name)
    all_or_raise([delete_server.submit(name, cloud, hold) for name in shut])

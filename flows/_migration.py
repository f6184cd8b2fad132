"""The streams of a single server move into a cluster of new stores; nothing is lost (morpheus/migration.py).

On the machine of the old server a new one runs beside it, on other ports, until the old one is stopped; then
the stores change places. The streams pass through this computer, which keeps them as archives for as long as
that takes. Plain calls, no tasks, but for the making of machines: what undoes a move needs this where
Prefect's server is gone, too.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.aio.client import Client

from flows._machines import PORT_TRIES, Ground, make, raise_machines
from flows._proof import prove
from morpheus import folders
from morpheus.cloud import Cloud
from morpheus.errors import MachineError, PortTakenError, UnreachableError
from morpheus.files import make_folder
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, Machine, StoreState, store_marker
from morpheus.machine.beside import LIFTS_AFTER, Beside, Fence
from morpheus.machine.local import free_bytes
from morpheus.migration import (
    Phase,
    Room,
    advanced,
    check_room,
    discarded,
    phase_of,
    settled,
    undoing,
    undone,
)
from morpheus.nats import access, holdings
from morpheus.nats.access import Access
from morpheus.nats.admin import connected
from morpheus.nats.archive import Archive, check_restored, restore, save
from morpheus.nats.config import Entry, Guard
from morpheus.outfit import File, Outfit
from morpheus.plan import activated
from morpheus.registry.lease import Hold
from morpheus.wait import wait_until
from morpheus.watch import client_urls, judged, machine_of, read_nodes, server_of, wait_ready

log = logging.getLogger("morpheus.move")

KEEP = timedelta(days=7)  # how long the old store stays
COPIES = 3  # of each stream, however many nodes there are to be
BESIDE = "beside"  # the new store, as the record of a move names it


def archives_of(forest: str) -> Path:
    """Where the streams of *forest* stand on this computer while they move."""
    return folders.data_dir() / "archives" / forest


def discard_archives(forest: str) -> None:
    """Remove what an interrupted move of *forest* left on this computer; nobody reads it any more."""
    shutil.rmtree(archives_of(forest), ignore_errors=True)


def room_to_move(forest: Forest, cloud: Cloud, outfit: Outfit | None) -> int:
    """How many bytes the streams of the single server of *forest* hold, for which there is room.

    Raises:
        RefusedError: there is none, or some of them cannot be moved.
    """
    old = forest.staying[0]
    assert outfit
    assert outfit.access
    guarded(forest, old, cloud, outfit, Guard(outfit.access.app_key, Entry.LISTEN))  # it has to be possible

    async def ask(urls: list[str], seed: str) -> int:
        async with connected(urls, seed) as client:
            found = await holdings.streams(client)
            holdings.movable(found)
            return sum(int(each["state"]["bytes"]) for each in found)

    with client_urls([old], cloud) as urls:
        held = asyncio.run(ask(urls, outfit.access.app_seed))
    here, there = free_bytes(folders.data_dir()), beside_of(old, cloud).free()
    shared = forest.provider == "local"  # the archives and all three stores stand on this computer
    rooms = [Room("this computer", here, 4 if shared else 1), Room(old.name, there, 1)]
    check_room(forest.name, held, rooms[:1] if shared else rooms)
    return held


def move(ground: Ground, outfit: Outfit) -> None:
    """Move the streams, from ``prepared`` to ``kept``, or finish what is ``committed``.

    Raises:
        OvertakenError: it took too long somewhere, and the old server takes messages again.
    """
    hold, cloud = ground.hold, ground.cloud
    if phase_of(hold.forest.migration) is not Phase.COMMITTED:
        mover = access.generate()
        during = raise_beside(ground, outfit, mover)
        ground.phases.ended("raised")
        note(hold, Phase.FENCED)
        old = old_node(hold.forest)
        fence = fence_of(hold, cloud, outfit)
        closed = guarded(hold.forest, old, cloud, outfit, Guard(mover.app_key, Entry.LISTEN))
        hold.check()
        fence.arm(closed.content)
        ground.phases.ended("fenced")
        bring_over(ground, during, mover, fence)
        note(hold, Phase.RESTORED)
        ground.phases.ended("restored")
        hold.check()
        fence.close()
        note(hold, Phase.COMMITTED)
        ground.phases.ended("committed")
    finish(ground, outfit)


def old_node(forest: Forest) -> Node:
    """The node whose old server has the streams."""
    assert forest.migration
    return forest.node(forest.migration.node)


def note(hold: Hold, phase: Phase) -> None:
    hold.update(lambda forest, _: advanced(forest, phase) if forest else None)
    log.info("%s: the move of its streams is %s", hold.forest.name, phase)


def beside_of(old: Node, cloud: Cloud) -> Beside:
    """The place of the new server on the machine of the *old* one."""
    return cloud.beside(server_of(old))


def fence_of(hold: Hold, cloud: Cloud, outfit: Outfit) -> Fence:
    """The fence around the old server."""
    old = old_node(hold.forest)
    server = outfit.server(alone(hold.forest, old), old, machine_of(old, cloud).layout)
    return beside_of(old, cloud).fence(server, hold.turn, LIFTS_AFTER)


def alone(forest: Forest, old: Node) -> Forest:
    """*forest* as its *old* server knows it."""
    return replace(forest, nodes=(old,))


def guarded(forest: Forest, old: Node, cloud: Cloud, outfit: Outfit, guard: Guard) -> File:
    """The configuration of the *old* server with a *guard*."""
    machine = machine_of(old, cloud)
    files = outfit.files(alone(forest, old), old, machine.layout, machine.read, guard)
    return next(file for file in files if file.path == machine.layout.config)


def raise_beside(ground: Ground, outfit: Outfit, mover: Access) -> Forest:
    """Start the new cluster, which only the *mover* enters; the forest as it listens meanwhile."""
    hold, cloud = ground.hold, ground.cloud
    old = old_node(hold.forest)
    names = tuple(node.name for node in hold.forest.staying if node.name != old.name)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    guard = Guard(mover.app_key, Entry.NONE)
    for _ in range(PORT_TRIES):
        raise_machines(ground, names, ())
        hold.check()
        beside_of(old, cloud).prepare(store_marker(hold.forest.name, old.name, created), old.ports)
        during = meanwhile(hold.forest, cloud)
        try:
            for node in during.staying:
                serve(ground, during, node, outfit, guard)
        except PortTakenError as error:
            log.warning("%s", error)
            for node in during.staying:
                standing(ground, node).stop(NATS)
            continue
        timeout, interval = ground.wait.readiness_timeout, ground.wait.readiness_interval
        wait_ready(during, cloud, mover.app_seed, timeout=timeout, interval=interval)
        return during
    raise MachineError(f"Other programs took the chosen ports {PORT_TRIES} times in a row; try again.")


def serve(ground: Ground, forest: Forest, node: Node, outfit: Outfit, guard: Guard | None) -> None:
    """Start the server of *node*, as it listens in *forest*, with its configuration as it is to be."""
    ground.hold.check()
    machine = standing(ground, node)
    for file in outfit.files(forest, node, machine.layout, machine.read, guard):
        machine.put(file.path, file.content, mode=file.mode)
    machine.start(outfit.server(forest, node, machine.layout))


def standing(ground: Ground, node: Node) -> Machine:
    """The machine of *node* as its server has it: beside the old one, if it listens there."""
    if node.ports != ground.hold.forest.node(node.name).ports:
        return beside_of(node, ground.cloud).machine
    return machine_of(node, ground.cloud)


def bring_over(ground: Ground, during: Forest, mover: Access, fence: Fence) -> None:
    """Save every stream from the fenced server, restore it in the cluster, and compare."""
    forest, cloud = ground.hold.forest, ground.cloud
    folder = archives_of(forest.name)
    discard_archives(forest.name)
    make_folder(folder)

    async def bring(from_old: Sequence[str], to_new: Sequence[str]) -> None:
        async with connected(from_old, mover.app_seed) as source, connected(to_new, mover.app_seed) as target:
            names = holdings.movable(await holdings.streams(source))
            archives = []
            for name in names:
                archives.append(await save(source, name, folder, fence.renew))
                await restore(target, archives[-1], COPIES, fence.renew)
                log.info("%s: %d messages moved", name, archives[-1].extent.messages)
            await check_restored(target, archives, COPIES, source, fence.renew)
            await check_quiet(source, archives)

    try:
        with client_urls([old_node(forest)], cloud) as old, client_urls(during.staying, cloud) as new:
            asyncio.run(bring(old, new))
    finally:
        discard_archives(forest.name)


async def check_quiet(client: Client, archives: Sequence[Archive]) -> None:
    """Raise MachineError when the fenced server took anything after it was saved."""
    found = {each["config"]["name"]: each for each in await holdings.streams(client)}
    if found.keys() != {archive.stream for archive in archives}:
        raise MachineError("Streams were made or deleted behind the fence; run this again.")
    for archive in archives:
        if holdings.writes_itself(archive.config):
            continue
        if holdings.Extent.of(found[archive.stream]["state"]).last != archive.extent.last:
            raise MachineError(f"{archive.stream} took messages behind the fence; run this again.")


def finish(ground: Ground, outfit: Outfit) -> None:
    """Let programs enter the new servers: those that nobody knows yet first, and at last the known port.

    Each is started anew by that, which tells it the ids of the messages that were restored. Where the
    machine of the old server is gone the forest is left without it, to be healed.
    """
    hold, cloud = ground.hold, ground.cloud
    if is_gone(ground):
        finish_without(ground, outfit)
        return
    during = awake(ground, outfit)
    forest, old = hold.forest, old_node(hold.forest)
    beside = beside_of(old, cloud)
    discard_archives(forest.name)
    if during != forest:
        for node in during.staying:
            if node.name != old.name:
                await_formed(ground, during)
                hold.check()
                machine_of(node, cloud).stop(NATS)
                serve(ground, during, node, outfit, None)
        await_formed(ground, during)
        hold.check()
        beside.machine.stop(NATS)
        beside.exchange()
    serve(ground, forest, old, outfit, None)
    await_formed(ground, forest)
    ground.phases.ended("opened")
    prove(ground, outfit, healed=True)
    hold.check()
    beside.remove(hold.turn)
    hold.update(lambda forest, now: settled(activated(forest), now, KEEP) if forest else None)
    log.info("%s: its old store stays in %s", forest.name, beside.kept)


def is_gone(ground: Ground) -> bool:
    """Whether the machine of the old server is no more, while those of the others are there.

    One that is not listed may run all the same, with labels that somebody changed.
    """
    hold, old = ground.hold, old_node(ground.hold.forest)
    there = {server.name for server in ground.cloud.list_servers(hold.registry_id, hold.forest.name)}
    if {node.name for node in hold.forest.staying} - there != {old.name}:
        return False
    try:
        return ground.cloud.store(server_of(old)) is StoreState.GONE
    except UnreachableError:
        return True


def finish_without(ground: Ground, outfit: Outfit) -> None:
    """Let programs enter the other servers, which have all that was moved; healing replaces the old one.

    What stands in memory is lost by that: each server is started anew, and no third one is there.
    """
    hold, cloud = ground.hold, ground.cloud
    old = old_node(hold.forest)
    discard_archives(hold.forest.name)
    for machine in (beside_of(old, cloud).machine, machine_of(old, cloud)):
        with contextlib.suppress(UnreachableError):
            machine.stop(NATS)
    names = [node.name for node in hold.forest.staying if node.name != old.name]
    down = [name for name in names if machine_of(hold.forest.node(name), cloud).pid(NATS) is None]
    if down:  # another program may have taken their ports
        make(ground, tuple(down), ())
    for name in names:
        hold.check()
        machine_of(hold.forest.node(name), cloud).stop(NATS)
        serve(ground, hold.forest, hold.forest.node(name), outfit, None)
    hold.update(lambda forest, _: discarded(activated(forest)) if forest else None)
    log.warning("%s is gone; its streams are on %s", old.name, ", ".join(names))


def awake(ground: Ground, outfit: Outfit) -> Forest:
    """Start the new servers that an earlier run stopped and did not start again; the forest as it listens.

    Another program may have taken the port of one that nobody knows yet: it gets another one.

    Raises:
        MachineError: its new store is gone, and a cluster would delete what is in the old one.
    """
    hold, cloud = ground.hold, ground.cloud
    during, old = meanwhile(hold.forest, cloud), old_node(hold.forest)
    if during == hold.forest:
        if beside_of(old, cloud).exchanged():
            return during
        raise MachineError(
            f"The new store on the machine of {old.name} is gone, so its move cannot be finished: nothing "
            "was changed. Its old store is there, and whole copies of the streams are on the other nodes."
        )
    down = [node for node in during.staying if standing(ground, node).pid(NATS) is None]
    held = [node.name for node in down if cloud.store(server_of(node)) is StoreState.HELD]
    if moved := tuple(name for name in held if name != old.name):
        make(ground, moved, ())
        during = meanwhile(hold.forest, cloud)
    for node in down:
        serve(ground, during, during.node(node.name), outfit, Guard(access.generate().app_key, Entry.NONE))
    return during


def meanwhile(forest: Forest, cloud: Cloud) -> Forest:
    """*forest* as it listens as long as the new store of its old node is not in its place."""
    old = old_node(forest)
    ports = beside_of(old, cloud).ports()
    return forest.with_nodes(replace(old, metadata={**old.metadata, **ports})) if ports else forest


def await_formed(ground: Ground, forest: Forest) -> None:
    """Return when all servers are well; who is well has all copies it is to have."""
    wait_until(
        f"the servers of {forest.name} to be well",
        lambda: judged(forest.staying, read_nodes(forest.staying, ground.cloud)),
        lambda verdict: verdict.formed,
        lambda verdict: verdict.reason,
        timeout=ground.wait.readiness_timeout,
    )


def undo_move(cloud: Cloud, hold: Hold, outfit: Outfit) -> None:
    """Leave the forest as it was before its streams were to move.

    Raises:
        RefusedError: they have moved.
    """
    clear_move(cloud, hold, outfit)
    hold.update(lambda forest, _: undone(forest) if forest else None)
    log.info("%s: its streams were not moved; it is as it was", hold.forest.name)


def clear_move(cloud: Cloud, hold: Hold, outfit: Outfit) -> None:
    """Let programs in at the old server, and remove the new ones, which stay recorded.

    Raises:
        RefusedError: the streams have moved.
    """
    forest = hold.recorded() or hold.forest  # a write whose answer was lost may have committed it
    undoing(forest.migration)
    old = old_node(forest)
    hold.check()
    fence_of(hold, cloud, outfit).lift()
    hold.check()
    beside_of(old, cloud).remove(hold.turn)
    discard_archives(forest.name)
    others = [node for node in forest.nodes if node.name != old.name]
    hold.check()
    cloud.admit(
        *(hold.registry_id, forest.name, [server_of(old)]),
        [server_of(node) for node in others if node.ip],
    )
    for node in others:
        hold.check()
        cloud.delete_server(hold.registry_id, node.name)

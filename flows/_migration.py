"""The streams of a single server move into a cluster of new stores; nothing is lost (morpheus/migration.py).

On the machine of the old server a new one runs beside it, on other ports, until the old one is stopped; then
the stores change places. Plain calls, no tasks, but for the making of machines: what undoes a move needs this
where Prefect's server is gone, too.
"""

import asyncio
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.aio.client import Client

from flows._machines import Ground, make
from flows._proof import prove
from morpheus.cloud import Cloud
from morpheus.errors import MachineError
from morpheus.files import make_folder
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, store_marker, watchman
from morpheus.machine.local import LocalMachine, free_bytes, is_free
from morpheus.machine.watchman import LIFTS_AFTER
from morpheus.migration import (
    Phase,
    Room,
    advanced,
    check_room,
    phase_of,
    settled,
    undoing,
    undone,
)
from morpheus.nats import access, config, holdings
from morpheus.nats.access import Access
from morpheus.nats.admin import connected
from morpheus.nats.archive import Archive, check_restored, restore, save
from morpheus.nats.config import Entry, Guard
from morpheus.nats.fence import LocalFence
from morpheus.outfit import LocalOutfit, Outfit
from morpheus.plan import activated
from morpheus.registry.lease import Hold
from morpheus.wait import wait_until
from morpheus.watch import judged, machine_of, read_nodes, wait_ready

log = logging.getLogger("morpheus.move")

COPIES = 4  # of the streams on the disk of this computer: archives and three stores
KEEP = timedelta(days=7)  # how long the old store stays
BESIDE, BEFORE, ARCHIVES, PORTS = "beside", "store-before", "archives", "ports.json"
ASIDE = 900  # between the ports of a server and those of the one beside it


def room_to_move(forest: Forest, cloud: Cloud, outfit: Outfit | None) -> int:
    """How many bytes the streams of the single server of *forest* hold, for which there is room.

    Raises:
        RefusedError: there is none, or some of them cannot be moved.
    """
    node = forest.staying[0]
    assert outfit
    assert outfit.access

    async def ask(seed: str) -> int:
        async with connected([config.client_url(node)], seed) as client:
            found = await holdings.streams(client)
            holdings.movable(found)
            return sum(int(each["state"]["bytes"]) for each in found)

    held = asyncio.run(ask(outfit.access.app_seed))
    free = free_bytes(local(node, cloud).folder)
    check_room(forest.name, held, [Room("this computer", free, COPIES)])
    return held


def move(ground: Ground, outfit: LocalOutfit) -> None:
    """Move the streams, from ``prepared`` to ``kept``, or finish what is ``committed``.

    Raises:
        OvertakenError: it took too long somewhere, and the old server takes messages again.
    """
    hold = ground.hold
    if phase_of(hold.forest.migration) is not Phase.COMMITTED:
        mover = access.generate()
        during = raise_beside(ground, outfit, mover)
        ground.phases.ended("raised")
        note(hold, Phase.FENCED)
        fence = fence_of(hold.forest, ground.cloud, outfit)
        old = old_node(hold.forest)
        alone = replace(hold.forest, nodes=(old,))
        guarded = rendered(alone, old, fence.machine, outfit.access, Guard(mover.app_key, Entry.LISTEN))
        hold.check()
        fence.arm(guarded.nats.encode())
        bring_over(old, during, mover, fence)
        note(hold, Phase.RESTORED)
        ground.phases.ended("restored")
        hold.check()
        fence.close()
        note(hold, Phase.COMMITTED)
    finish(ground, outfit)


def old_node(forest: Forest) -> Node:
    """The node whose old server has the streams."""
    assert forest.migration
    return forest.node(forest.migration.node)


def note(hold: Hold, phase: Phase) -> None:
    hold.update(lambda forest, _: advanced(forest, phase) if forest else None)
    log.info("%s: the move of its streams is %s", hold.forest.name, phase)


def local(node: Node, cloud: Cloud) -> LocalMachine:
    machine = machine_of(node, cloud)
    assert isinstance(machine, LocalMachine)
    return machine


def fence_of(forest: Forest, cloud: Cloud, outfit: LocalOutfit) -> LocalFence:
    """The fence around the old server."""
    old = old_node(forest)
    machine = local(old, cloud)
    server = config.server_program(str(outfit.nats), old, machine.layout, standalone=True)
    return LocalFence(machine, server, lifts_after=LIFTS_AFTER)


def rendered(
    forest: Forest, node: Node, machine: LocalMachine, access: Access, guard: Guard | None
) -> config.Configuration:
    listen = node.ip or "127.0.0.1"
    return config.render(forest, node, machine.layout, access, listen=listen, guard=guard)


def raise_beside(ground: Ground, outfit: LocalOutfit, mover: Access) -> Forest:
    """Start the new cluster, which only the *mover* enters; the forest as it listens meanwhile."""
    hold, cloud = ground.hold, ground.cloud
    old = old_node(hold.forest)
    fresh = tuple(node.name for node in hold.forest.staying if node.name != old.name)
    make(ground, fresh, (old.name,))
    beside = local(old, cloud).beside()
    make_folder(beside.folder)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    beside.put(beside.layout.marker, store_marker(hold.forest.name, old.name, created))
    beside.put(str(beside.folder / PORTS), json.dumps(free_ports(old)).encode())
    during = meanwhile(hold.forest, local(old, cloud))
    guard = Guard(mover.app_key, Entry.NONE)
    for node in during.staying:
        hold.check()
        serve(during, node, beside if node.name == old.name else local(node, cloud), outfit, guard)
    timeout, interval = ground.wait.readiness_timeout, ground.wait.readiness_interval
    wait_ready(during, cloud, mover.app_seed, timeout=timeout, interval=interval)
    return during


def free_ports(node: Node) -> Mapping[str, str]:
    """Ports for clients and monitoring that are free while the old server of *node* has its own."""
    wanted = (("client", node.ports.client), ("monitor", node.ports.monitor))
    return {
        f"{kind}_port": str(next(port for port in range(first + ASIDE, first + 2 * ASIDE) if is_free(port)))
        for kind, first in wanted
    }


def serve(
    forest: Forest, node: Node, machine: LocalMachine, outfit: LocalOutfit, guard: Guard | None
) -> None:
    """Start the server of *node* on *machine* with its configuration as it is to be."""
    files = rendered(forest, node, machine, outfit.access, guard).files(machine.layout)
    for path, text in files.items():
        machine.put(path, text.encode())
    machine.start(config.server_program(str(outfit.nats), node, machine.layout, standalone=False))


def bring_over(old: Node, during: Forest, mover: Access, fence: LocalFence) -> None:
    """Save every stream from the fenced server, restore it in the cluster, and compare."""
    folder = fence.machine.folder / ARCHIVES
    make_folder(folder)

    async def bring() -> None:
        new = [config.client_url(node) for node in during.staying]
        async with (
            connected([config.client_url(old)], mover.app_seed) as source,
            connected(new, mover.app_seed) as target,
        ):
            names = holdings.movable(await holdings.streams(source))
            archives = []
            for name in names:
                archives.append(await save(source, name, folder, fence.renew))
                await restore(target, archives[-1], len(during.staying), fence.renew)
                log.info("%s: %d messages moved", name, archives[-1].extent.messages)
            await check_restored(target, archives, len(during.staying), source, fence.renew)
            await check_quiet(source, archives)

    asyncio.run(bring())


async def check_quiet(client: Client, archives: Sequence[Archive]) -> None:
    """Raise MachineError when the fenced server took anything after it was saved."""
    found = {each["config"]["name"]: each for each in await holdings.streams(client)}
    if found.keys() != {archive.stream for archive in archives}:
        raise MachineError("Streams were made or deleted behind the fence; run this again.")
    for archive in archives:
        if holdings.Extent.of(found[archive.stream]["state"]).last != archive.extent.last:
            raise MachineError(f"{archive.stream} took messages behind the fence; run this again.")


def finish(ground: Ground, outfit: LocalOutfit) -> None:
    """Let programs enter the new servers: those that nobody knows yet first, and at last the known port.

    Each is started anew by that, which tells it the ids of the messages that were restored.
    """
    hold, cloud = ground.hold, ground.cloud
    forest, old = hold.forest, old_node(hold.forest)
    machine = local(old, cloud)
    beside, during = machine.beside(), meanwhile(forest, machine)
    hold.check()
    if during != forest:
        serve(during, during.node(old.name), beside, outfit, Guard(access.generate().app_key, Entry.NONE))
    for node in during.staying:
        if node.name != old.name:
            await_formed(ground, during)
            hold.check()
            local(node, cloud).stop(NATS)
            serve(during, node, local(node, cloud), outfit, None)
    await_formed(ground, during)
    hold.check()
    beside.stop(NATS)
    exchange(machine)
    serve(forest, old, machine, outfit, None)
    await_formed(ground, forest)
    ground.phases.ended("opened")
    prove(ground, outfit, healed=True)
    for left in (ARCHIVES, watchman.NAME):
        shutil.rmtree(machine.folder / left, ignore_errors=True)
    hold.update(lambda forest, now: settled(activated(forest), now, KEEP) if forest else None)
    log.info("%s: its old store stays in %s", forest.name, machine.folder / BEFORE)


def meanwhile(forest: Forest, machine: LocalMachine) -> Forest:
    """*forest* as it listens as long as the new store of *machine* is not in its place."""
    beside = machine.beside()
    told = beside.read(str(beside.folder / PORTS))
    if told is None or not Path(beside.layout.store).exists():
        return forest
    old = old_node(forest)
    return forest.with_nodes(replace(old, metadata={**old.metadata, **json.loads(told)}))


def await_formed(ground: Ground, forest: Forest) -> None:
    """Return when all servers are well; who is well has all copies it is to have."""
    wait_until(
        f"the servers of {forest.name} to be well",
        lambda: judged(forest.staying, read_nodes(forest.staying, ground.cloud)),
        lambda verdict: verdict.formed,
        lambda verdict: verdict.reason,
        timeout=ground.wait.readiness_timeout,
    )


def exchange(machine: LocalMachine) -> None:
    """Put the new store of *machine* into the place of the old one, which is kept; no server runs."""
    beside, store = machine.beside(), Path(machine.layout.store)
    if not Path(beside.layout.store).exists():
        return  # done before
    if store.exists():
        store.rename(machine.folder / BEFORE)
    Path(beside.layout.store).rename(store)
    shutil.rmtree(beside.folder, ignore_errors=True)


def undo_move(cloud: Cloud, hold: Hold, outfit: LocalOutfit) -> None:
    """Leave the forest as it was before its streams were to move.

    Raises:
        RefusedError: they have moved.
    """
    forest = hold.recorded() or hold.forest  # a write whose answer was lost may have committed it
    undoing(forest.migration)
    old = old_node(forest)
    machine = local(old, cloud)
    hold.check()
    fence_of(forest, cloud, outfit).lift()
    machine.beside().stop(NATS)
    shutil.rmtree(machine.beside().folder, ignore_errors=True)
    shutil.rmtree(machine.folder / ARCHIVES, ignore_errors=True)
    for node in forest.nodes:
        if node.name != old.name:
            hold.check()
            cloud.delete_server(hold.registry_id, node.name)
    hold.update(lambda forest, _: undone(forest) if forest else None)
    log.info("%s: its streams were not moved; it is as it was", forest.name)

"""From names to servers that run: machines made, recorded, entered, made ours, equipped, and started."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect import unmapped

from flows._story import Phases
from flows._undo import give_back
from morpheus.cloud import Cloud, Order
from morpheus.embedded import EmbeddedOutfit
from morpheus.errors import (
    LeaseLostError,
    MachineError,
    MorpheusError,
    NotReadyError,
    PortTakenError,
    UnreachableError,
)
from morpheus.forest import Node, Status
from morpheus.outfit import MachineOutfit, Outfit
from morpheus.plan import addressed, keyed, offered, replaced, taken
from morpheus.registry.lease import Hold
from morpheus.settings import ProvisioningSettings
from morpheus.watch import server_of
from tasks._retry import all_or_raise, faults
from tasks.machines import enter, install, make_host_key, prepare, run_script, take_host_key
from tasks.nats import await_streams, configure, restart_nats, start_nats, verify_cluster
from tasks.registry import record
from tasks.servers import admit, delete_server, ensure_server
from tasks.share import publish_part, take_part

log = logging.getLogger("morpheus.plant")

PORT_TRIES = 5


@dataclass(frozen=True, slots=True)
class Ground:
    """All that the steps of one plant share; no outfit where machines cannot take any."""

    cloud: Cloud
    hold: Hold
    outfit: Outfit | None
    run: str
    wait: ProvisioningSettings
    phases: Phases = field(default_factory=Phases)


def bring_up(ground: Ground, names: tuple[str, ...], *, without: tuple[str, ...] = ()) -> None:
    """Machines for *names*, their addresses recorded, every node but *without* configured, *names* started.

    A port that another program took in between is a reason to choose again, not to fail.
    """
    for _ in range(PORT_TRIES):
        names = raise_machines(ground, names, without)
        if ground.outfit is None:
            return
        try:
            start(ground, ground.outfit, names, without)
        except PortTakenError as error:
            log.warning("%s", error)
            continue
        return
    raise MachineError(f"Other programs took the chosen ports {PORT_TRIES} times in a row; try again.")


def raise_machines(ground: Ground, names: tuple[str, ...], without: tuple[str, ...]) -> tuple[str, ...]:
    """Machines that let us in for *names*; one of this run that does not get ready is replaced once."""
    make(ground, names, without)
    if not isinstance(ground.outfit, MachineOutfit):
        return names
    if failed := entered(ground, names):
        fresh = replace(ground, failed)
        make(ground, fresh, without)
        for error in entered(ground, fresh).values():
            raise error
        names = (*(name for name in names if name not in failed), *fresh)
    ground.phases.ended("entered")
    make_ours(ground, ground.outfit, names)
    ground.phases.ended("equipped")
    return names


def make(ground: Ground, names: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Servers for *names*, recorded, and let in where the nodes of the forest reach each other."""
    hold = ground.hold
    orders = _orders(ground, names)
    parts = ground.cloud.groundwork([each for each in orders if not hold.forest.node(each.name).ip])
    all_or_raise([prepare.submit(part, call, hold) for part, call in parts.items()])
    servers = all_or_raise(ensure_server.map(orders, *same(ground.cloud, hold)))
    ground.phases.ended("created")
    if isinstance(outfit := ground.outfit, MachineOutfit):
        servers = [outfit.measured(hold.forest.node(server.name), server) for server in servers]
    try:
        record("addresses", hold, lambda forest, _: addressed(forest, servers))
    except LeaseLostError:
        give_back(ground.cloud, hold, servers, ground.run)
        raise
    placed = [node for node in hold.forest.staying if node.ip and node.name not in without]
    leaving = [node for node in hold.forest.nodes if node.ip and node not in placed]
    known = tuple(map(server_of, placed))
    if (admitted := admit(ground.cloud, hold, known, tuple(map(server_of, leaving)))) != known:
        record("names", hold, lambda forest, _: addressed(forest, admitted))
    ground.phases.ended("recorded")


def _orders(ground: Ground, names: tuple[str, ...]) -> list[Order]:
    """What is ordered for *names*; what a machine is born with to be entered is recorded before."""
    hold, outfit, told = ground.hold, ground.outfit, dict.fromkeys(names, "")
    if isinstance(outfit, MachineOutfit):
        unborn = [name for name in names if "host_key" not in hold.forest.node(name).metadata]
        if unborn:
            keys, port = {name: outfit.host_key(name) for name in unborn}, ground.wait.ssh_port
            record("host-keys", hold, lambda forest, _: keyed(forest, keys, port))
        told = {name: outfit.user_data(hold.forest, hold.forest.node(name)) for name in names}
    siblings, forest = len(hold.forest.staying), hold.forest.name
    return [Order(name, forest, hold.registry_id, ground.run, siblings, told[name]) for name in names]


def entered(ground: Ground, names: tuple[str, ...]) -> Mapping[str, MorpheusError]:
    """Enter the machines of *names*, and run the operator's script on those that are new.

    Returns those of this run that do not get ready, and why.

    Raises:
        MorpheusError: another machine does not, or one shows a host key that is not its own.
    """
    hold, outfit, bound = ground.hold, ground.outfit, ground.wait.machine_timeout
    nodes = [hold.forest.node(name) for name in names]
    failed = _failed(ground, nodes, faults(enter.map(nodes, *same(ground.cloud, bound))))
    if isinstance(outfit, MachineOutfit) and outfit.script:
        new = [node for node in nodes if node.status == Status.PROVISIONING and node.name not in failed]
        running = run_script.map(new, *same(ground.cloud, outfit, hold, bound))
        failed |= _failed(ground, new, faults(running))
    return failed


def _failed(
    ground: Ground, nodes: Sequence[Node], errors: Sequence[MorpheusError | None]
) -> dict[str, MorpheusError]:
    failed: dict[str, MorpheusError] = {}
    for node, error in zip(nodes, errors, strict=True):
        untouched = _is_untouched(ground.outfit, node)
        if isinstance(error, NotReadyError | MachineError | UnreachableError) and untouched:
            failed[node.name] = error
        elif error:
            raise error
    return failed


def _is_untouched(outfit: Outfit | None, node: Node) -> bool:
    """Whether the machine of *node* still is as it was born: it gets another host key before any program.

    So nobody's data can be on it, and no server of it ever came to the cluster.
    """
    return isinstance(outfit, MachineOutfit) and node.metadata.get("host_key") == outfit.host_key(node.name)


def replace(ground: Ground, failed: Mapping[str, MorpheusError]) -> tuple[str, ...]:
    """Fresh names in the place of those that *failed*, whose machines go; no server ever started on them."""
    hold, gone = ground.hold, tuple(failed)
    for name, error in failed.items():
        log.warning("%s does not get ready, so a fresh one takes its place: %s", name, error)
    fresh, price = hold.forest.fresh_names(len(gone)), ground.cloud.price()
    record("replacement", hold, lambda forest, now: replaced(forest, gone, fresh, (), ground.run, now, price))
    all_or_raise([delete_server.submit(name, ground.cloud, hold) for name in gone])
    record("departure", hold, lambda forest, _: forest.without(*gone))
    return fresh


def make_ours(ground: Ground, outfit: MachineOutfit, names: tuple[str, ...]) -> None:
    """Give the machines *names* host keys that nobody else ever read, and their programs.

    The order survives a stop anywhere: the machine makes a key, it is recorded (both are accepted), the
    machine shows it alone, that is proven, the birth key goes from the machine and then from the record.
    Who brings programs meanwhile may have to enter anew at any point, so it knows both keys.
    """
    hold, cloud = ground.hold, ground.cloud
    keys = new_keys(ground, outfit, names)
    installing = install.map([hold.forest.node(name) for name in names], *same(cloud, outfit, hold))
    if keys:
        all_or_raise(take_host_key.map([hold.forest.node(name) for name in keys], *same(cloud, hold)))
        record(
            "own-host-keys",
            hold,
            lambda forest, _: forest.with_nodes(*(taken(forest.node(name)) for name in keys)),
        )
    all_or_raise(installing)


def new_keys(ground: Ground, outfit: MachineOutfit, names: tuple[str, ...]) -> Mapping[str, str]:
    """Host keys, by node, of the machines among *names* that show those of their birth; recorded already."""
    hold = ground.hold
    nodes = map(hold.forest.node, names)
    born = [node for node in nodes if node.metadata["host_key"] == outfit.host_key(node.name)]
    if not born:
        return {}
    made = all_or_raise(make_host_key.map(born, *same(ground.cloud, hold)))
    keys = {node.name: key for node, key in zip(born, made, strict=True)}
    record("new-host-keys", hold, lambda forest, _: offered(forest, keys))
    return keys


def start(ground: Ground, outfit: Outfit, names: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Configure every node but *without*, and start the servers of *names*."""
    hold = ground.hold
    placed = [node for node in hold.forest.staying if node.ip and node.name not in without]
    changed = deliver(ground, outfit, placed)
    ground.phases.ended("configured")
    starting = [node for node in placed if node.name in names]
    all_or_raise(start_nats.map(starting, *same(hold.forest, ground.cloud, outfit, hold)))
    ground.phases.ended("started")
    stale = [node for node, has_changed in zip(placed, changed, strict=True) if has_changed]
    if without:
        return  # nodes are missing: nobody is stopped before the forest is whole again
    for node in stale:
        restart(ground, outfit, node)


def deliver(ground: Ground, outfit: Outfit, nodes: Sequence[Node]) -> list[bool]:
    """Configure *nodes*, all at once; for each, whether its running server has to be started anew."""
    hold = ground.hold
    facts = same(hold.forest, ground.cloud, outfit, hold)
    shelf = outfit.shelf if isinstance(outfit, EmbeddedOutfit) else None
    if shelf:
        publish_part(hold.forest, shelf, hold)
    changed = all_or_raise(configure.map(list(nodes), *facts))
    if shelf:
        bound = ground.wait.readiness_timeout
        all_or_raise(take_part.map(list(nodes), *same(hold.forest, ground.cloud, hold, bound)))
    return changed


def restart(ground: Ground, outfit: Outfit, node: Node) -> None:
    """Start the server of *node* anew; the next one only when all nodes and streams are whole again."""
    forest, cloud, wait = ground.hold.forest, ground.cloud, ground.wait
    assert outfit.access  # what a workload brings is not configured here
    restart_nats(node, forest, cloud, outfit, ground.hold)
    verify_cluster(forest, cloud, outfit.access, wait.readiness_timeout, wait.readiness_interval)
    await_streams(forest, cloud, outfit.access, forest.lost_streams, wait.readiness_timeout)


def same(*values: Any) -> tuple[Any, ...]:
    """Arguments that every call of a map gets as they are."""
    return tuple(unmapped(value) for value in values)

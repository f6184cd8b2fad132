"""Plant a forest, or heal it: reserve its names, raise its machines, prove the cluster, record it as active.

A run that stops halfway leaves a forest in the status ``provisioning`` that planting again completes; what
the run itself created is removed when it fails or is cancelled (``keep`` leaves it for a later run).
"""

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from prefect import flow, unmapped
from prefect.runtime import flow_run
from pydantic import Field

from blocks import open_cloud, open_registry
from flows._peers import remove_peers, streams_at_stake
from flows._undo import give_back, sweep, undo
from morpheus import folders, site
from morpheus import settings as config
from morpheus.cloud import Cloud, Order
from morpheus.errors import LeaseLostError, MachineError, MorpheusError, PortTakenError
from morpheus.forest import MAX_NODES, Forest, Price, size_warning, wanted_nodes
from morpheus.machine.binaries import find_programs
from morpheus.names import name_from
from morpheus.nats.access import Access
from morpheus.plan import (
    Verb,
    Wanted,
    activated,
    addressed,
    check_budget,
    plan_plant,
    replaced,
    reserve,
    subjects,
)
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold
from morpheus.wait import let_wait
from morpheus.watch import server_of
from tasks._retry import all_or_raise, settle
from tasks.nats import await_streams, configure, start_nats, start_workload, verify_cluster
from tasks.registry import record, take_lease
from tasks.servers import admit, ensure_server, observe

log = logging.getLogger("morpheus.plant")

PORT_TRIES = 5


@dataclass(frozen=True, slots=True)
class Planted:
    """What a plant did: the forest, the seconds it took, and the streams that were lost before it."""

    forest: Forest
    seconds: float
    lost_streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Programs:
    """What is put on the nodes, as paths of this machine."""

    nats: str
    workload: str | None

    @classmethod
    def found(cls, settings: config.Settings) -> "Programs":
        server, workload = find_programs(settings.integration, folders.cache_dir())
        log.info("nats-server %s from %s", server.version, server.origin)
        return cls(str(server.path), str(workload.path) if workload else None)


@dataclass(frozen=True, slots=True)
class Ground:
    """All that the steps of one plant share; no programs where machines cannot take any."""

    cloud: Cloud
    hold: Hold
    access: Access
    programs: Programs | None
    run: str


def run_name() -> str:
    """``plant-<forest>``, also when the run names the forest."""
    return f"plant-{flow_run.parameters.get('name') or name_from(str(flow_run.id))}"


@flow(name="plant", flow_run_name=run_name, on_cancellation=[sweep], on_crashed=[sweep])
def plant(  # noqa: PLR0913, PLR0917  # each one is a choice of the person who plants
    name: str | None = None,
    size: Literal["small", "medium", "large"] | None = None,
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] | None = None,
    cloud: str = "settings",
    registry: str = "settings",
    keep: bool = False,  # Prefect passes parameters by name
) -> Planted:
    """Plant the forest, or heal it, and return it once a message has passed through its cluster.

    Args:
        name: Its name: a DNS label of at most 50 characters. Left out, the run makes one up.
        size: small is 1 node, medium 3, large 5. Left out: as it is, or medium for a new forest.
        nodes: The number of nodes, instead of a size. Two are refused; odd numbers are the better choice.
        cloud: Where machines come from: local, settings (morpheus.yaml), or a stored block as type/name.
        registry: Where the forest is recorded: settings (morpheus.yaml) or a stored block as type/name.
        keep: When it fails, leave what was created, so that planting again can go on from there.
    """
    started = time.monotonic()
    let_wait()
    run = str(flow_run.id)
    where = open_cloud(cloud)
    known = open_registry(registry, where.provider)
    settings = config.load()
    wanted = Wanted(
        name_from(run) if name is None else name,
        wanted_nodes(size, nodes),
        where.provider,
        where.location,
        known.url,
        run,
    )
    is_new = known.find(wanted.name) is None
    where.check(creates=is_new)
    if is_new:
        wanted = replace(wanted, price=where.price())
    site.check_unique(settings, wanted.name, known)
    programs = Programs.found(settings) if where.runs_programs else None
    if programs is None:
        log.warning("only the machines are made: putting NATS on servers of Hetzner is not built in yet")

    def reserved(document: Document, now: datetime) -> Document:
        forest = reserve(document.forests.get(wanted.name), wanted, now)
        check_budget(document.forests, forest, settings.budget.max_monthly_eur)
        return document.with_forest(forest)

    with take_lease(known, Claim(wanted.name, "plant", run), reserved, where.margin) as hold:
        try:
            if warning := size_warning(len(hold.forest.staying)):
                log.warning(warning)
            access = site.access_folder().ensure(wanted.name)
            lost = raise_forest(Ground(where, hold, access, programs, run), settings)
        except BaseException as error:
            if not isinstance(error, Exception):
                log.warning("%s: stopping; what is under way ends, what was made goes again", wanted.name)
            settle()
            if not keep:
                take_back(where, hold, run, error)
            raise
    return Planted(hold.forest, time.monotonic() - started, lost)


def take_back(cloud: Cloud, hold: Hold, run: str, error: BaseException) -> None:
    """Undo the run, which ended with *error*; where that is not possible, say what may be left.

    Raises:
        LeaseLostError: another operation took the forest over, which is why the run could not go on.
    """
    try:
        undo(cloud, hold, run)
    except LeaseLostError as lost:
        if isinstance(error, Exception):
            raise lost from error
    except MorpheusError as fault:
        log.warning(
            "%s: what was made could not all be removed again (%s) It stays recorded and may cost: plant "
            "again to go on, or morpheus teardown %s",
            *(hold.forest.name, fault, hold.forest.name),
        )


def raise_forest(ground: Ground, settings: config.Settings) -> tuple[str, ...]:
    """From whatever is there to an active forest; returns the streams that were lost before."""
    hold, forest = ground.hold, ground.hold.forest
    steps = plan_plant(forest, observe(ground.cloud, hold.registry_id, forest.name))

    if leaving := subjects(steps, Verb.REMOVE_PEER):
        retiring = subjects(steps, Verb.RETIRE)
        bring_up(ground, subjects(steps, Verb.REVIVE), without=retiring)
        lost: tuple[str, ...] = ()
        if ground.programs:
            lost = streams_at_stake(ground.cloud, hold, leaving, ground.access, settings.provisioning)
        fresh = subjects(steps, Verb.RESERVE)
        price = ground.cloud.price() if fresh else Price()
        record(
            "replacement",
            hold,
            lambda forest, now: replaced(forest, retiring, fresh, lost, ground.run, now, price),
        )
        remove_peers(ground.cloud, hold, leaving, ground.access)
        bring_up(ground, subjects(steps, Verb.CREATE))
    else:
        bring_up(ground, (*subjects(steps, Verb.REVIVE), *subjects(steps, Verb.CREATE)))

    lost = hold.forest.lost_streams
    if ground.programs:
        prove(ground, ground.programs, settings, healed=bool(leaving or subjects(steps, Verb.REVIVE)))
    record("active", hold, lambda forest, _: activated(forest))
    return lost


def prove(ground: Ground, programs: Programs, settings: config.Settings, *, healed: bool) -> None:
    """The cluster is formed, the streams of a *healed* one are complete, and the workload runs."""
    hold, wait = ground.hold, settings.provisioning
    verify_cluster(hold.forest, ground.cloud, wait.readiness_timeout, wait.readiness_interval)
    if healed:
        lost = hold.forest.lost_streams
        await_streams(hold.forest, ground.cloud, ground.access, lost, wait.readiness_timeout)
    if programs.workload:
        every = hold.forest.staying
        all_or_raise(start_workload.map(every, *_same(hold.forest, ground.cloud, programs.workload, hold)))


def bring_up(ground: Ground, names: tuple[str, ...], *, without: tuple[str, ...] = ()) -> None:
    """Machines for *names*, their addresses recorded, every node but *without* configured, *names* started.

    A port that another program took in between is a reason to choose again, not to fail.
    """
    hold = ground.hold
    for _ in range(PORT_TRIES):
        siblings = len(hold.forest.staying)
        orders = [Order(name, hold.forest.name, hold.registry_id, ground.run, siblings) for name in names]
        servers = all_or_raise(ensure_server.map(orders, *_same(ground.cloud, hold)))
        try:
            record("addresses", hold, lambda forest, _, servers=servers: addressed(forest, servers))  # type: ignore[misc]
        except LeaseLostError:
            give_back(ground.cloud, hold, servers, ground.run)
            raise
        placed = [node for node in hold.forest.staying if node.ip and node.name not in without]
        known = tuple(map(server_of, placed))
        if (admitted := admit(ground.cloud, hold, known)) != known:
            record("names", hold, lambda forest, _, servers=admitted: addressed(forest, servers))  # type: ignore[misc]
        if ground.programs is None:
            return
        all_or_raise(configure.map(placed, *_same(hold.forest, ground.cloud, ground.access, hold)))
        starting = [node for node in placed if node.name in names]
        try:
            all_or_raise(
                start_nats.map(starting, *_same(hold.forest, ground.cloud, ground.programs.nats, hold))
            )
        except PortTakenError as error:
            log.warning("%s", error)
            continue
        return
    raise MachineError(f"Other programs took the chosen ports {PORT_TRIES} times in a row; try again.")


def _same(*values: Any) -> tuple[Any, ...]:
    """Arguments that every call of a map gets as they are."""
    return tuple(unmapped(value) for value in values)

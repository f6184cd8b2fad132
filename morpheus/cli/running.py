"""Commands that change something: each runs its flow in this process.

Prefect's server is the one that PREFECT_API_URL names, else the one that ``morpheus up`` started, else a
temporary one that ends with the command.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from morpheus import elsewhere, folders, keyring, site, watch
from morpheus import settings as config
from morpheus.cli import progress, server, show, starting, temporary
from morpheus.cli.connecting import forget_contexts
from morpheus.cli.looking import the_forest
from morpheus.cloud import Cloud
from morpheus.errors import ForestNotFoundError, UnreachableError
from morpheus.expansion import check_departure, whole_name
from morpheus.folders import check_here
from morpheus.forest import Forest, Node, Price, Size, check_name, wanted_nodes
from morpheus.machine.binaries import find_programs
from morpheus.names import name_from
from morpheus.plan import Step, Wanted, check_budget, plan_plant, reserve

if TYPE_CHECKING:
    from flows.grow import Grown
    from flows.plant import Planted

ANSWER_TIMEOUT = 5.0  # seconds


def plan(
    cloud: str, size: Size | None, nodes: int | None, name: str | None
) -> tuple[Forest, tuple[Step, ...]]:
    """What :func:`plant` would do: the forest as it would be reserved, and the steps.

    Without a *name* it is one that no forest of the registry has.
    """
    settings = config.load()
    where = site.local_cloud() if cloud == "local" else site.configured_cloud(settings)
    registry = site.local_registry() if where.provider == "local" else site.require_shared(settings)
    document = registry.read()
    if name is None:
        name = next(each for each in iter(_made_up, "") if each not in document.forests)
    wanted = Wanted(name, wanted_nodes(size, nodes), where.provider, where.location)
    site.check_unique(settings, wanted.name, registry)
    if where.runs_programs:
        with progress.shown("Looking for the programs ..."):
            find_programs(settings.integration, folders.cache_dir())
    is_new = wanted.name not in document.forests
    with progress.shown("Asking whether that can be had ..."):
        where.check(creates=is_new)
    if is_new:
        with progress.shown("Asking for prices ..."):
            wanted = replace(wanted, price=where.price())
    forest = reserve(document.forests.get(wanted.name), wanted, registry.now())
    check_budget(document.forests, forest, settings.budget.max_monthly_eur)
    if any(node.ip for node in forest.nodes):
        where = keyring.entered(settings, where, forest)
    steps = plan_plant(forest, watch.look(where, document.registry_id or "", forest.name, forest))
    if not where.needs_key:
        return forest, steps
    script = settings.integration.bootstrap_script is not None
    return forest, elsewhere.with_machines(steps, forest.name, script=script)


def _made_up() -> str:
    return name_from(uuid.uuid4().hex)


def plant(cloud: str, size: Size | None, nodes: int | None, name: str | None, *, keep: bool) -> "Planted":
    """Run the flow ``plant``; bad input is refused before Prefect starts."""
    if cloud != "local" and (answer := starting.before_plant(config.load())):
        show.founded_before(answer)
    forest, _ = plan(cloud, size, nodes, name)
    if cloud == "local":
        site.local_cloud().check_room(sum(not node.ip for node in forest.staying))
    with _prefect():
        from flows.plant import plant as flow  # noqa: PLC0415  # Prefect takes its settings at import

        return flow(name=forest.name, nodes=wanted_nodes(size, nodes), cloud=cloud, keep=keep)


def grow(name: str, nodes: int, *, seen: int, expanded: datetime | None, auto: bool) -> "Grown":
    """Run the flow ``grow``."""
    with _prefect():
        from flows.grow import grow as flow  # noqa: PLC0415  # Prefect takes its settings at import

        return flow(name=name, nodes=nodes, seen=seen, expanded=expanded, auto=auto)


def go_on(name: str, cloud: str, registry: str, key: str) -> None:
    """Finish or undo the move of a forest's streams that a killed run left."""
    with _prefect():
        from flows.grow import go_on as finish  # noqa: PLC0415  # Prefect takes its settings at import

        finish(name, cloud, registry, key)


@dataclass(frozen=True, slots=True)
class Doomed:
    """What a teardown removes; ``holdings`` is all there is of it in words, where that was looked for."""

    name: str
    nodes: int
    price: Price
    holdings: tuple[str, ...] = ()


def to_tear_down(name: str | None, *, look: bool, gone: bool) -> Doomed:
    """The forest that is meant, machines without a record included; *look* at all there is of it.

    Unless they are *gone* for certain, some of its machines have to be there, or what they shared.
    """
    settings = config.load()
    found = the_forest(None) if name is None else site.find(settings, check_name(name))
    if found:
        forest = found.forest
        if not gone:
            watch.check_there(found.registry.read(), forest.name, site.cloud_of(settings, forest))
        doomed = Doomed(forest.name, len(forest.nodes), forest.price)
        return _looked_at(doomed, site.cloud_of(settings, forest), found.registry_id) if look else doomed
    if name is None or not (servers := site.unrecorded(settings, name)):
        raise ForestNotFoundError(f"There is no forest {name}. {site.known_names(settings)}")
    doomed = Doomed(name, len(servers), sum((Price.of(each.metadata) for each in servers), Price()))
    registry_id = servers[0].labels["registry-id"]
    is_local = registry_id == site.local_registry().read().registry_id
    where = site.local_cloud() if is_local else site.configured_cloud(settings)
    return _looked_at(doomed, where, registry_id) if look else doomed


def _looked_at(doomed: Doomed, cloud: Cloud, registry_id: str) -> Doomed:
    with progress.shown("Looking at what there is ..."):
        return replace(doomed, holdings=tuple(cloud.holdings(registry_id, doomed.name)))


def teardown(name: str, *, gone: bool) -> tuple[str, ...]:
    """Run the flow ``teardown``."""
    with _prefect():
        from flows.teardown import teardown as flow  # noqa: PLC0415  # Prefect takes its settings at import

        removed = flow(name=name, gone=gone)
    forget_contexts(name)
    return removed


def to_remove(name: str, node: str) -> tuple[Forest, Node]:
    """The forest, and the node of it that is meant and may leave."""
    forest = the_forest(name).forest
    whole = whole_name(forest, node)
    check_departure(forest, whole)
    return forest, forest.node(whole)


def remove_node(name: str, node: str) -> Forest:
    """Run the flow ``remove-node``; returns the forest without it."""
    with _prefect():
        from flows.remove import remove_node as flow  # noqa: PLC0415  # Prefect takes its settings at import

        return flow(name=name, node=node)


def discard(name: str, *, asked: bool) -> bool:
    """Run the flow ``discard-old-store``; whether there was one that may go."""
    with _prefect():
        from flows.discard import discard_old_store  # noqa: PLC0415  # Prefect takes its settings at import

        return discard_old_store(name, asked=asked)


@contextlib.contextmanager
def _prefect() -> Iterator[None]:
    """Prefect, quiet and with a server, while the block runs."""
    check_here()
    named = "PREFECT_API_URL" in os.environ
    running = None if named else server.find()
    for level in ("LEVEL", "ROOT_LEVEL", "INTERNAL_LEVEL"):
        os.environ.setdefault(f"PREFECT_LOGGING_{level}", "CRITICAL")  # our own log tells the story
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    what = "Starting Prefect for this run (some seconds, the first time up to half a minute)"
    if api := running.api if running else os.environ.get("PREFECT_API_URL"):
        what = f"Starting a run on the Prefect server {api}"
    with progress.shown(f"{what} ..."):
        own = None
        if named:
            _check_answers(os.environ["PREFECT_API_URL"])
        elif running:
            os.environ.update(running.client_environment())
        else:
            # Of its own: it goes with the command, and must not reach the database of the one that stays.
            own = temporary.start(folders.data_dir() / "prefect-temporary")
            os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
            os.environ.update(own.client_environment())
        # Prefect takes its settings at import, which lasts as long as the server's start.
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: PLC0415

        if own:
            own.wait()
        # The heartbeat's thread would cost a second at the end, and nobody watches this run from outside.
        try:
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                yield
        except RuntimeError as error:
            if "reach API" not in str(error):
                raise
            raise _unreachable(os.environ["PREFECT_API_URL"]) from error


def _check_answers(api: str) -> None:
    """Raise UnreachableError when *api* keeps silent; what else may be wrong with it Prefect finds out."""
    import httpx  # noqa: PLC0415  # only for this

    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
        try:
            httpx.get(f"{api.rstrip('/')}/health", timeout=ANSWER_TIMEOUT)
        except httpx.TimeoutException as error:
            raise _unreachable(api) from error


def _unreachable(api: str) -> UnreachableError:
    return UnreachableError(
        f"The Prefect server {api} does not answer: start it, or unset PREFECT_API_URL for a temporary one."
    )

"""Taking back what a run created, when it failed, was cancelled or crashed.

Plain calls, no tasks: this also runs where Prefect's server has gone away, and in the hooks that a worker
runs in a process of their own after the flow's process has died.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from pydantic import SecretStr

from blocks import open_cloud, open_registry, open_shelf, open_vault, removable_vault
from morpheus import site
from morpheus.cloud import Cloud, Server
from morpheus.errors import ForestBusyError, LeaseLostError, MorpheusError, RefusedError
from morpheus.forest import Forest, Status
from morpheus.machine import StoreState
from morpheus.names import name_from
from morpheus.plan import Sight, made_by, undone
from morpheus.registry.lease import Claim, Hold
from morpheus.shelf import Shelf
from morpheus.vault import Vault
from morpheus.watch import look, server_of

log = logging.getLogger("morpheus.undo")

AT_ONCE = 10  # machines that are removed


def take_back(undoing: Callable[[], None], hold: Hold, error: BaseException) -> None:
    """Take back a run, which ended with *error*, by *undoing*; where that fails, say what may be left.

    Raises:
        LeaseLostError: another operation took the forest over, which is why the run could not go on.
    """
    try:
        undoing()
    except LeaseLostError as lost:
        if isinstance(error, Exception):
            raise lost from error
    except MorpheusError as fault:
        log.warning(
            "%s: what was made could not all be removed again (%s) It stays recorded and may cost: run this "
            "again to go on, or morpheus teardown %s",
            *(hold.forest.name, fault, hold.forest.name),
        )


def undo(cloud: Cloud, hold: Hold, run: str, vault: Vault | None, shelf: Shelf | None = None) -> None:
    """Remove the servers and records that *run* created; what was there before stays.

    A node that already started beside others which hold data stays as well: the cluster may have put
    streams on it. It is recorded, and planting again completes it.
    """
    forest = hold.forest
    servers = {server.name: server for server in cloud.list_servers(hold.registry_id, forest.name)}
    unmade = {node.name for node in made_by(forest, run) if node.name not in servers}
    removed = unmade | _removable(cloud, hold, servers, run)
    _remove(cloud, hold, removed, unmade)
    if undone(forest, run, removed) is None:  # by the record, which goes last, all of this is found again
        if vault:
            vault.delete(forest)
        site.access_folder().forget(forest.name)
    rest = hold.update(lambda forest, _: undone(forest, run, removed) if forest else None)
    try:
        if rest is None:
            cloud.clear(hold.registry_id, forest.name)
            if shelf:
                shelf.clear(forest.name)
        elif removed:  # their addresses may be somebody else's soon
            hold.check()
            staying, leaving = (
                [server_of(node) for node in rest.nodes if node.ip and node.leaving is goes]
                for goes in (False, True)
            )
            cloud.admit(hold.registry_id, forest.name, staying, leaving)
    except MorpheusError as error:  # it costs nothing, and the next plant of that name sees to it
        log.warning("%s", error)


def _removable(cloud: Cloud, hold: Hold, servers: Mapping[str, Server], run: str) -> set[str]:
    """The nodes whose servers *run* made and that cannot hold anybody's data."""
    forest = hold.forest
    never_active = forest.status == Status.PROVISIONING
    sights = {} if never_active or not cloud.runs_programs else _sights(cloud, hold)
    names = set()
    for node in forest.nodes:
        server = servers.get(node.name)
        if server is None or server.run != run or node.status == Status.ACTIVE:
            continue
        if not never_active and cloud.runs_programs and not _is_empty(sights.get(node.name)):
            _say_it_stays(run, node.name)
            continue
        names.add(node.name)
    return names


def _sights(cloud: Cloud, hold: Hold) -> Mapping[str, Sight]:
    """What there is on the forest's machines; nothing where they cannot be entered."""
    try:
        return look(cloud, hold.registry_id, hold.forest.name, hold.forest)
    except MorpheusError as error:
        log.warning("what the machines hold cannot be seen: %s", error)
        return {}


def _is_empty(sight: Sight | None) -> bool:
    return sight is not None and sight.store is StoreState.FRESH


@functools.cache
def _say_it_stays(run: str, name: str) -> None:
    """Once for each *run*: an interrupted one takes itself back, and then its hook looks again."""
    del run
    log.warning("%s stays: it may hold data of the running cluster; plant again to finish", name)


def _remove(cloud: Cloud, hold: Hold, names: Collection[str], unmade: Collection[str]) -> None:
    """Delete the servers *names*, all at once; of those *unmade* the creation may have begun."""

    def remove(name: str) -> None:
        hold.check()
        try:
            cloud.delete_server(hold.registry_id, name)
        except RefusedError:
            if name not in unmade:
                raise
            return  # another one's, so ours was never made
        if name not in unmade:
            log.info("%s: removed again", name)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(remove, sorted(names)))


def give_back(cloud: Cloud, hold: Hold, servers: Sequence[Server], run: str) -> None:
    """Delete the *servers* that *run* made and that no record knows, because the forest was taken over."""
    forest = hold.recorded()
    known = {node.name for node in forest.nodes} if forest else set()
    for server in servers:
        if server.run == run and server.name not in known:
            cloud.delete_server(hold.registry_id, server.name)
            log.warning("%s: removed again, for its record was refused", server.name)


def sweep(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Undo a run from outside, after it was cancelled or its process died; nothing when all is in order."""
    del flow, state
    given = flow_run.parameters or {}
    run, name = str(flow_run.id), given.get("name") or name_from(str(flow_run.id))
    if given.get("keep"):
        return
    with contextlib.suppress(MorpheusError):
        cloud = open_cloud(given.get("cloud", "settings"))
        slug = given.get("registry", "settings")
        registry = open_registry(slug, cloud.provider)
        vault = _vault(slug, given.get("key", "settings")) if cloud.needs_key else None
        document = registry.read()
        forest = document.forests.get(name)
        if forest is None or not _began(cloud, document.registry_id or "", forest, run):
            return
        try:
            claim = Claim(name, "undo", run)
            with Hold(registry, claim, lambda document, _: document, margin=cloud.margin) as hold:
                shelf = _shelf(slug, cloud) if cloud.needs_key else None
                undo(entered(cloud, vault, hold.forest), hold, run, vault, shelf)
        except ForestBusyError as error:
            log.warning("%s", error)


def _vault(registry: str, key: str) -> Vault:
    """The secrets beside the registry; without its key they can still be removed."""
    try:
        return open_vault(registry, key)
    except MorpheusError as error:
        log.warning("%s", error)
        return removable_vault(registry)


def _shelf(registry: str, cloud: Cloud) -> Shelf | None:
    """The homes of forests beside the registry; where they cannot be looked for, the servers go all the same.

    A home is made before anything tells that a forest has one, so it is looked for with every forest.
    """
    try:
        return open_shelf(registry, cloud)
    except MorpheusError as error:
        log.warning("%s", error)
        return None


def entered(cloud: Cloud, vault: Vault | None, forest: Forest) -> Cloud:
    """*cloud* as the machines of *forest* are entered; as it is where its secrets are not at hand."""
    try:
        return cloud.entered_with(SecretStr(vault.open(forest).ssh_key)) if vault else cloud
    except MorpheusError as error:
        log.warning("%s", error)
        return cloud


def _began(cloud: Cloud, registry_id: str, forest: Forest, run: str) -> bool:
    """Whether *run* left something half done: names it reserved, or servers for those of an earlier run."""
    if made_by(forest, run):
        return True
    unfinished = {node.name for node in forest.nodes if node.status == Status.PROVISIONING}
    if not unfinished:
        return False
    there = cloud.list_servers(registry_id, forest.name)
    return any(server.run == run and server.name in unfinished for server in there)

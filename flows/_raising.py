"""From whatever there is of a forest to one that is active: what planting and growing have in common."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from prefect import task
from pydantic import SecretStr

from blocks import open_shelf, open_vault
from flows._departure import depart
from flows._machines import Ground, bring_up, deliver
from flows._peers import answering, remove_peers, streams_at_stake
from flows._proof import prove
from flows._recall import recall
from morpheus import folders, site
from morpheus.cloud import Cloud
from morpheus.embedded import EmbeddedOutfit, check_heal, is_wanted
from morpheus.forest import Forest, Price
from morpheus.machine import StoreState
from morpheus.machine.binaries import Binary, find_programs
from morpheus.machine.bootstrap import read_script
from morpheus.machine.share import Share
from morpheus.migration import check_moved
from morpheus.outfit import LocalOutfit, MachineOutfit, Outfit
from morpheus.plan import Sight, Step, Verb, activated, plan_plant, replaced, subjects
from morpheus.registry.lease import Hold
from morpheus.secrets import ForestSecrets
from morpheus.settings import ProvisioningSettings, Settings
from morpheus.shelf import Shelf
from morpheus.vault import Vault
from tasks._retry import RETRYING
from tasks.registry import record, unlock
from tasks.servers import observe
from tasks.share import make_share

log = logging.getLogger("morpheus.plant")

Found = Callable[[str | None], tuple[Binary | None, Binary | None]]
"""nats-server and the workload for a platform; None is this computer's."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What a run has at hand to make nodes of one cloud ours; all of it is there before anything is made."""

    cloud: Cloud
    settings: Settings
    found: Found
    script: bytes | None
    vault: Vault | None
    shelf: Shelf | None

    @classmethod
    def of(cls, cloud: Cloud, settings: Settings, registry: str, key: str, *, creates: bool = True) -> Self:
        """Find it, where *registry* and *key* are slugs; with what new machines need if it *creates* some.

        Raises:
            MorpheusError: a program cannot be fetched, the key is wrong or missing, the script is none.
        """
        vault = open_vault(registry, key) if cloud.needs_key else None
        found = functools.cache(functools.partial(find_programs, settings.integration, folders.cache_dir()))
        for target in cloud.platforms() if creates else ():
            found(target)
        embedded = cloud.needs_key and is_wanted(settings.integration)
        shelf = open_shelf(registry, cloud) if embedded else None
        return cls(cloud, settings, found, read_script(settings.integration.bootstrap_script), vault, shelf)

    @property
    def embedded(self) -> bool:
        """Whether the workload brings its own NATS server."""
        return self.cloud.needs_key and is_wanted(self.settings.integration)

    def equipped(self, hold: Hold) -> tuple[Cloud, Outfit | None]:
        """The cloud as the machines of the forest are entered, and what they are given."""
        if not self.vault:
            if self.cloud.runs_programs and (server := self.found(None)[0]):
                log.info("nats-server %s from %s", server.version, server.origin)
            return self.processes(hold.forest)
        secrets = unlock(self.vault, hold)
        share = make_share(self.shelf, self.vault, hold) if self.shelf else None
        return self.machines(secrets, share)

    def opened(self, forest: Forest) -> tuple[Cloud, Outfit | None]:
        """The same of a recorded *forest*; nothing is made, and no task is run."""
        return self.machines(self.vault.open(forest)) if self.vault else self.processes(forest)

    def machines(self, secrets: ForestSecrets, share: Share | None = None) -> tuple[Cloud, Outfit]:
        """Machines that are entered with the forest's key."""
        entered, settings = self.cloud.entered_with(SecretStr(secrets.ssh_key)), self.settings
        if not self.embedded:
            return entered, MachineOutfit(secrets, settings, self.found, script=self.script)
        return entered, EmbeddedOutfit(
            secrets, settings, self.found, script=self.script, shelf=self.shelf, share=share
        )

    def processes(self, forest: Forest) -> tuple[Cloud, Outfit | None]:
        """Machines that are folders of this computer, or such as take no programs."""
        cloud = self.cloud
        if not cloud.runs_programs:
            log.warning("only machines are made: no programs can be put on those of %s", cloud.provider)
            return cloud, None
        server, workload = self.found(None)
        assert server
        access = site.access_folder().ensure(forest.name)
        return cloud, LocalOutfit(access, server.path, workload.path if workload else None)


def planned(ground: Ground) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The steps of the plant, and the nodes that an interrupted departure left with what they hold.

    Where stores are gone as well, what leaves is as lost as they are, and streams are named that go with it.
    """
    hold, outfit = ground.hold, ground.outfit
    seen = observe(ground.cloud, hold.registry_id, hold.forest.name, hold.forest)
    steps = plan_plant(hold.forest, seen)
    if subjects(steps, Verb.RETIRE) or not (outfit and outfit.access):
        return steps, ()
    held = [
        node
        for node in hold.forest.nodes
        if node.leaving and seen.get(node.name, Sight()).store is StoreState.HELD
    ]
    return steps, tuple(node.name for node, _, _ in answering(held, ground.cloud))


@task(task_run_name="leave-{node}", **RETRYING)
def leave(node: str, cloud: Cloud, outfit: Outfit, hold: Hold, wait: ProvisioningSettings) -> None:
    """Move what is on the node away, take it out of the cluster, and delete its machine."""
    depart(cloud, hold, outfit, node, wait)


def raise_forest(ground: Ground) -> tuple[str, ...]:
    """From whatever is there to an active forest; returns the streams that were lost before."""
    hold, outfit = ground.hold, ground.outfit
    check_moved(hold.forest)
    recalled = recall(ground)
    steps, departing = planned(ground)
    if departing and outfit:
        bring_up(ground, subjects(steps, Verb.REVIVE))
        for name in departing:
            leave(name, ground.cloud, outfit, hold, ground.wait)
        steps, _ = planned(ground)
    forest = hold.forest

    if leaving := subjects(steps, Verb.REMOVE_PEER):
        retiring = subjects(steps, Verb.RETIRE)
        check_heal(forest, retiring)
        bring_up(ground, subjects(steps, Verb.REVIVE), without=retiring)
        lost: tuple[str, ...] = ()
        access = outfit.access if outfit else None
        if access:
            lost = streams_at_stake(ground.cloud, hold, leaving, access, ground.wait)
        fresh = subjects(steps, Verb.RESERVE)
        price = ground.cloud.price() if fresh else Price()
        record(
            "replacement",
            hold,
            lambda forest, now: replaced(forest, retiring, fresh, lost, ground.run, now, price),
        )
        remove_peers(ground.cloud, hold, leaving, access)
        bring_up(ground, subjects(steps, Verb.CREATE))
    else:
        bring_up(ground, (*subjects(steps, Verb.REVIVE), *subjects(steps, Verb.CREATE)))

    lost = hold.forest.lost_streams
    if outfit:
        prove(ground, outfit, healed=bool(leaving or subjects(steps, Verb.REVIVE)))
        ground.phases.ended("verified")
    record("active", hold, lambda forest, _: activated(forest))
    if hold.forest.is_embedded and outfit:
        deliver(ground, outfit, hold.forest.staying)  # as it stands in the registry now
    ground.phases.ended("active")
    for name in recalled:
        assert outfit
        leave(name, ground.cloud, outfit, hold, ground.wait)
    return lost

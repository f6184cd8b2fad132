"""A planted forest as tests look at it: from inside its machines, from beside them, from outside."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
from nats.aio.client import Client

from flows.plant import Planted, plant
from morpheus import keyring
from morpheus import settings as config
from morpheus.cli import looking
from morpheus.forest import Forest
from morpheus.health import Health
from morpheus.nats.cluster import Formation
from morpheus.secrets import ForestSecrets
from tests.flows.homes import Home, nothing_is_left
from tests.lab import Host, Lab
from tests.lab.commands import until
from tests.nats.grove import wait_for
from tests.simulator import Latency, Simulator
from tests.simulator.clients import client_of

Answer = TypeVar("Answer")
Work = Callable[[Client], Awaitable[Answer]]

LOOPBACK = "nats://127.0.0.1:4222"
SOON = 60.0  # seconds until anything has happened that is to happen, on a busy machine


@dataclass
class Stand:
    """The forest *name* of somebody at *home*, and its hosts."""

    lab: Lab
    simulator: Simulator
    home: Home
    name: str = "oak"

    def __post_init__(self) -> None:
        self._others = {*self.lab.hosts}

    def plant(self, **given: Any) -> Planted:
        self.home.enter()
        planted: Planted = plant(self.name, **given)
        return planted

    # What is known

    @property
    def forest(self) -> Forest:
        self.home.enter()
        return self.home.forests[self.name]

    @property
    def secrets(self) -> ForestSecrets:
        forest = self.forest
        return keyring.open_vault(keyring.keeper_of(config.load().registry)).open(forest)

    @property
    def status(self) -> Health:
        """What people are shown."""
        self.home.enter()
        return looking.examine(looking.the_forest(self.name))

    # Its machines

    @property
    def hosts(self) -> list[Host]:
        return [self.host(node.name) for node in self.forest.staying]

    def host(self, name: str) -> Host:
        """The machine of a node; another forest's of the same name is another one."""
        return self.lab.hosts[int(self.forest.node(name).metadata["server_id"])]

    def nothing_remains(self) -> None:
        """Make sure that there is no server, no host, no record and no secret."""
        nothing_is_left(self.simulator)
        assert self.home.forests == {}
        for beside in ("secrets", "readings"):
            assert list((self.home.folder / "data" / beside).glob(f"{self.name}*")) == []
        ours = [host for number, host in self.lab.hosts.items() if number not in self._others]
        until("its hosts are gone", lambda: not any(host.is_on or host.disk.folder.exists() for host in ours))

    # Its cluster

    def wait_formed(self) -> Formation:
        """Wait until every server is in the cluster and current, as status says it."""
        return wait_for(lambda: self.status.formation, lambda seen: seen.formed, SOON)

    def counted(self) -> set[str]:
        """The members of the cluster, as its leader counts them."""
        groups = {host.name: monitor(host, "/jsz")["meta_cluster"] for host in self.hosts}
        (leader,) = (name for name, each in groups.items() if each["leader"] == name)
        return {leader, *(peer["name"] for peer in groups[leader]["replicas"])}


def monitor(host: Host, path: str) -> Any:
    """What the server of *host* tells on its monitoring port."""
    asked = host.namespace.run(["curl", "-fsS", "-m", "5", f"http://127.0.0.1:8222{path}"])
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


def on(host: Host, work: Work[Answer], url: str = LOOPBACK, **options: Any) -> Answer:
    """What a client of *url* gets done with the network of *host*; by default beside the server."""
    with host.namespace.entered():
        return talk(url, work, **options)


def talk(url: str, work: Work[Answer], **options: Any) -> Answer:
    """What an unmodified client of *url* gets done from where the current thread lives.

    Raises:
        Exception: what the client met; it tries once.
    """

    async def quiet(_: Exception) -> None:
        """Errors come back from the calls themselves."""

    async def visit() -> Answer:
        usual = {
            "allow_reconnect": False,
            "max_reconnect_attempts": 0,
            "connect_timeout": 3,
            "error_cb": quiet,
        }
        client = await nats.connect(url, **(usual | options))
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(visit())


@contextlib.contextmanager
def standing(lab: Lab, folder: Path, seed: int, nodes: int, settings: Mapping[str, Any]) -> Iterator[Stand]:
    """A forest planted with *settings* for several tests, gone after the block.

    *seed* lets the numbers and addresses of its servers be no other project's; the zone of the domain, if
    they name one, is there.
    """
    simulator = Simulator(latency=Latency(scale=0), seed=seed, hosts=lab)
    with pytest.MonkeyPatch.context() as patch, lab.cleared(), simulator.running():
        if "dns" in settings:
            client_of(simulator).zones.create(name=settings["dns"]["domain"], mode="primary")
        stand = Stand(lab, simulator, Home(folder, simulator, patch).settle(**settings))
        stand.plant(nodes=nodes)
        yield stand
    assert simulator.violations == []

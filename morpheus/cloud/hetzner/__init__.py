"""Servers on Hetzner Cloud; the only place that imports hcloud.

Every act is *ensure* or *absent*: what is there under the name is looked up first and adopted when it is
ours, also when the answer to its creation was lost. All servers of a forest are made at once, each in a call
of its own thread; the looks and polls of such threads travel in one request.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pydantic import SecretStr

from morpheus.cloud import Homes, Order, Server, forest_of
from morpheus.cloud.hetzner import questions
from morpheus.cloud.hetzner.actions import Actions
from morpheus.cloud.hetzner.api import MARGIN, api_of
from morpheus.cloud.hetzner.catalogue import Catalogue, architecture, dearest
from morpheus.cloud.hetzner.homes import homes_beside
from morpheus.cloud.hetzner.network import Doors, Surroundings
from morpheus.cloud.hetzner.servers import Servers
from morpheus.cloud.hetzner.zones import Zones
from morpheus.errors import MissingPartError
from morpheus.forest import Price, check_name
from morpheus.machine import Machine, StoreState
from morpheus.machine.beside import Beside
from morpheus.settings import DnsSettings, FirewallSettings, MachineSettings


class Ways(Protocol):
    """How one gets onto servers."""

    def machine(self, server: Server) -> Machine:
        """Return the way onto *server*."""

    def beside(self, server: Server) -> Beside:
        """Return the place of a second server of NATS on *server*."""

    def store(self, server: Server) -> StoreState:
        """Return what stands in the place of the JetStream store of *server*."""


class HetznerCloud:
    """Servers of one project.

    Args:
        settings: which servers, with which key.
        firewall: who may reach them.
        dns: under which names they are found.
        enter: the way onto servers that let in the owner of a forest's SSH key; without it nothing can be
            put on servers, and a node is ready when its machine runs.
        ssh_port: where SSH answers on new servers, and on those of which nothing else is known.

    Raises:
        InvalidInputError: there is no token, or none that can be one.
    """

    provider = "hetzner"
    margin = MARGIN

    def __init__(
        self,
        settings: MachineSettings,
        firewall: FirewallSettings,
        dns: DnsSettings = DnsSettings(),  # noqa: B008  # frozen
        *,
        enter: Callable[[SecretStr], Ways] | None = None,
        ssh_port: int = 22,
    ) -> None:
        self._settings, self._doors, self._enter = settings, Doors(firewall, ssh_port), enter
        self._ways: Ways | None = None
        self._api = api_of(settings.hetzner)
        self._actions = Actions(self._api)
        self._catalogue = Catalogue(self._api, settings)
        self._servers = Servers(self._api, self._actions, self._catalogue, settings, self._doors)
        self._zones = Zones(self._api, self._actions, dns)

    @property
    def location(self) -> str:
        return self._settings.hetzner.locations[0]

    @property
    def runs_programs(self) -> bool:
        return self._enter is not None

    needs_key = runs_programs

    def entered_with(self, key: SecretStr) -> "HetznerCloud":
        entered = copy.copy(self)
        entered._ways = self._enter(key) if self._enter else None  # noqa: SLF001  # ours
        return entered

    def platforms(self) -> Collection[str]:
        if not self.runs_programs:
            return ()
        return {f"linux-{architecture(each.type)}" for each in self._catalogue.candidates()}

    def price(self) -> Price:
        """What a new node costs at most, whichever of the configured places it gets."""
        return dearest(self._catalogue.candidates())

    def questions(self) -> Sequence[Callable[[], str]]:
        """What can be asked without a change: each says what is well, or raises what is not."""
        asked = questions.of_project(self._api, self._catalogue, self._settings.hetzner)
        return (*asked, self._zones.check) if self._zones.wanted else asked

    def list_servers(self, registry_id: str, forest: str | None = None) -> Sequence[Server]:
        return self._servers.of(registry_id, None if forest is None else check_name(forest))

    def groundwork(self, orders: Sequence[Order]) -> Mapping[str, Callable[[], object]]:
        if not orders:
            return {}
        ground = self._servers.ground(orders[0].registry_id, orders[0].forest)
        return ground.parts([order.name for order in orders])

    def ensure_server(self, order: Order) -> Server:
        forest_of(order.name)
        return self._servers.ensure(order)

    def delete_server(self, registry_id: str, name: str) -> None:
        forest = forest_of(name)
        doomed = self._servers.removable(registry_id, name)
        # Before the machine, so that its name never leads to who gets its address; also where this device's
        # settings name no domain, for another one's may have.
        self._zones.withdraw(registry_id, forest, name)
        for server in doomed:
            self._servers.remove(server, registry_id)

    def check(self, *, creates: bool) -> None:
        if creates:
            self._servers.check()
        if self._zones.wanted:
            self._zones.check()

    def admit(
        self, registry_id: str, forest: str, nodes: Sequence[Server], leaving: Sequence[Server] = ()
    ) -> Sequence[Server]:
        ports = {each.ssh_port or self._doors.ssh_port for each in (*nodes, *leaving)}
        self._surroundings(registry_id, forest).admit(self._doors, [node.ip for node in nodes], ports)
        if not self._zones.wanted:
            return nodes
        names = self._zones.publish(registry_id, forest, nodes)
        return [replace(node, metadata={**node.metadata, "dns": names[node.name]}) for node in nodes]

    def clear(self, registry_id: str, forest: str) -> None:
        self._servers.forget(registry_id, forest)
        self._zones.sweep(registry_id, check_name(forest))
        self._surroundings(registry_id, forest).clear()

    def holdings(self, registry_id: str, forest: str) -> Sequence[str]:
        around = self._surroundings(registry_id, forest)
        return (
            *self._servers.described(registry_id, forest),
            *(f"firewall {each.name}" for each in around.firewalls()),
            *(f"placement group {each.name}" for each in around.groups()),
            *self._zones.described(registry_id, forest),
        )

    def homes(self, url: str, username: str) -> Homes | None:
        return homes_beside(self._settings.hetzner, url, username)

    def machine(self, server: Server) -> Machine:
        return self._way_onto(server).machine(server)

    def beside(self, server: Server) -> Beside:
        return self._way_onto(server).beside(server)

    def store(self, server: Server) -> StoreState:
        # Without a way onto it nobody can see what is on a server; it is there, so nothing is lost.
        return self._ways.store(server) if self._ways else StoreState.HELD

    def _way_onto(self, server: Server) -> Ways:
        if self._ways is None:
            raise MissingPartError(
                f"{server.name} is entered with the secrets of its forest, and they are not at hand here."
            )
        return self._ways

    def _surroundings(self, registry_id: str, forest: str) -> Surroundings:
        return Surroundings(self._api, self._actions, registry_id, check_name(forest))

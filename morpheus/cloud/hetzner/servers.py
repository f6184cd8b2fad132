"""Servers of a project: found, made, adopted, removed."""

import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace

from hcloud.helpers.labels import LabelValidator
from hcloud.locations import Location
from hcloud.primary_ips import BoundPrimaryIP
from hcloud.servers import BoundServer
from hcloud.servers.domain import CreateServerResponse, ServerCreatePublicNetwork

from morpheus.cloud import Order, Server
from morpheus.cloud.hetzner.actions import ActionFailedError, Actions
from morpheus.cloud.hetzner.addresses import Addresses, is_ours
from morpheus.cloud.hetzner.api import (
    SOLD_OUT,
    Api,
    MissingError,
    Shared,
    SoldOutError,
    TakenError,
    UnfitError,
)
from morpheus.cloud.hetzner.catalogue import Candidate, Catalogue, architecture
from morpheus.cloud.hetzner.ground import Ground
from morpheus.cloud.hetzner.keys import public_key
from morpheus.cloud.hetzner.network import Doors, Surroundings, applied, selector
from morpheus.errors import CloudBusyError, CloudError, InvalidInputError, MissingPartError, RefusedError
from morpheus.forest import Price
from morpheus.settings import MachineSettings
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.cloud")

TRIES = 12  # places that are tried for one node
DELETE_TIMEOUT = 120.0  # seconds
MOST_USER_DATA = 32 * 1024  # bytes
LOOK_EVERY = 1.0  # seconds, at a server that somebody else began to make


class Servers:
    """The servers of one project; its methods may be called by many threads at once."""

    def __init__(
        self,
        api: Api,
        actions: Actions,
        catalogue: Catalogue,
        settings: MachineSettings,
        doors: Doors,
    ) -> None:
        self._api, self._actions, self._catalogue = api, actions, catalogue
        self._settings, self._doors = settings, doors
        self._addresses = Addresses(api)
        self._listing = Shared(self._every_server)
        self._grounds: dict[tuple[str, str], Ground] = {}
        self._lock = threading.Lock()

    def of(self, registry_id: str, forest: str | None) -> Sequence[Server]:
        """Our servers of *forest*, or all: one request for each fifty begun, one for prices with IPv4."""
        return [self._server(each) for each in self._ours(registry_id, forest)]

    def described(self, registry_id: str, forest: str) -> Sequence[str]:
        """Our servers of *forest* in words, and what keeps them or outlives them."""
        found = self._ours(registry_id, forest)
        addresses = self._addresses.staying(found)
        staying = {k: each for k, each in addresses.items() if not is_ours(each, registry_id)}
        return [self._described(each, staying.get(each.id)) for each in found]

    def ensure(self, order: Order) -> Server:
        _check(order)
        if known := self._called(order.registry_id, order.name):
            return self._adopted(known[-1], order)
        return self._created(order)

    def removable(self, registry_id: str, name: str) -> Sequence[BoundServer]:
        """The servers of ours that are the node *name*, when they may be deleted: as a rule one or none.

        Raises:
            RefusedError: the only one of that name is not ours.
            CloudError: one is protected.
        """
        found = self._called(registry_id, name)
        if not all(_is_ours(server, registry_id) for server in found):
            raise RefusedError(
                f"The server {name} in this project is not of this registry; it was not touched."
            )
        doomed = [server for server in found if _node(server) == name]
        for server in doomed:
            if _is_protected(server):
                raise CloudError(
                    f"The server {_titled(server)} is protected against deletion: lift that in the Cloud "
                    "Console, then run this again."
                )
        return doomed

    def check(self) -> None:
        """Raise what would keep every new server from being made, as far as that can be asked."""
        self._check_here()
        self._catalogue.image(self._catalogue.candidates()[0].type)

    def _check_here(self) -> None:
        """Raise what this machine lacks; nothing is sent."""
        if not self._settings.ipv4.enabled:
            check_ipv6(self._settings.hetzner.ipv6_target)
        public_key(self._settings.ssh)

    def forget(self, registry_id: str, forest: str) -> None:
        """Make sure anew of what the servers of *forest* share when the next one is made."""
        with self._lock:
            self._grounds.pop((registry_id, forest), None)

    # Looking

    def _every_server(self) -> list[BoundServer]:
        with self._api.call("list the servers of the project"):
            return self._api.client.servers.get_all()

    def _called(self, registry_id: str, name: str) -> list[BoundServer]:
        """Our servers that are the node *name*, one that still has the name last; else whichever has it."""
        every = self._listing()
        ours = [each for each in every if _is_ours(each, registry_id) and _node(each) == name]
        return sorted(ours, key=_order) or [each for each in every if each.name == name]

    def _ours(self, registry_id: str, forest: str | None) -> list[BoundServer]:
        with self._api.call(f"list the servers of {forest or 'all forests'}"):
            found = self._api.client.servers.get_all(label_selector=selector(registry_id, forest))
        return sorted(found, key=_order)

    def _described(self, found: BoundServer, address: BoundPrimaryIP | None) -> str:
        server = self._server(found)
        kind = f"{server.metadata['server_type']} in {server.metadata['location']}"
        price = Price.of(server.metadata)
        words = [kind, *filter(None, (server.ip, server.metadata.get("ipv4"))), server.status, str(price)]
        kept = "; PROTECTED: it stays until that is lifted" if _is_protected(found) else ""
        volumes = f"; its {len(found.volumes)} volume(s) stay, and cost" if found.volumes else ""
        stays = f"; its primary IP {address.ip} stays, and costs" if address else ""
        return f"server {_titled(found)} ({', '.join(words)}){kept}{volumes}{stays}"

    def _server(self, found: BoundServer) -> Server:
        assert found.location  # only partial objects lack these
        assert found.server_type
        assert found.public_net
        location, ipv4 = str(found.location.name), found.public_net.ipv4
        price = self._catalogue.price_of(found.server_type, location, ipv4=ipv4 is not None)
        metadata = {
            "server_id": str(found.id),
            "server_type": str(found.server_type.name),
            "location": location,
            "architecture": architecture(found.server_type),
            "memory_gb": f"{found.server_type.memory:g}",
            "disk_gb": f"{found.server_type.disk:g}",
            **({"ipv4": str(ipv4.ip)} if ipv4 else {}),
            **price.metadata,
        }
        labels, status = dict(found.labels or {}), str(found.status)
        return Server(_node(found), _address(found), labels, metadata, status)

    # Making

    def _created(self, order: Order) -> Server:
        refusals: list[str] = []
        self._check_here()
        ground = self.ground(order.registry_id, order.forest)
        for candidate in ground.candidates()[:TRIES]:
            try:
                return self._created_at(candidate, order, ground)
            except (SoldOutError, UnfitError) as error:
                log.info("%s Trying the next place.", error)
                refusals.append(str(error))
            except TakenError:  # the answer to an earlier try was lost, or somebody else has the name
                if known := self._called(order.registry_id, order.name):
                    return self._adopted(known[-1], order)
                raise CloudBusyError(
                    f"The name {order.name} is taken, but no server that has it is listed."
                ) from None
            except MissingError:
                self.forget(order.registry_id, order.forest)
                raise CloudBusyError(f"Somebody removed meanwhile what {order.name} needs.") from None
        raise CloudError(
            f"{order.name} found no place in {len(refusals)} tries; add others to "
            f"machine.hetzner.server_type_fallback or .location. {' '.join(refusals)}"
        )

    def ground(self, registry_id: str, forest: str) -> Ground:
        """What the servers of *forest* share; each part of it is made when somebody asks for it first."""
        with self._lock:
            place = (registry_id, forest)
            if place not in self._grounds:
                around = Surroundings(self._api, self._actions, *place)
                self._grounds[place] = Ground(around, self._api, self._catalogue, self._settings, self._doors)
            return self._grounds[place]

    def _created_at(self, candidate: Candidate, order: Order, ground: Ground) -> Server:
        group, image = ground.group(order.name), ground.image(candidate.type)
        key, firewall = ground.key(), ground.firewall()
        with self._api.call(f"create {order.name} ({candidate})"):
            made = self._api.client.servers.create(
                order.name,
                candidate.type,
                image,
                ssh_keys=[key],
                firewalls=[firewall],
                user_data=order.user_data or None,
                labels=dict(order.labels),
                location=Location(name=candidate.location),
                placement_group=group,
                public_net=ServerCreatePublicNetwork(
                    enable_ipv4=self._settings.ipv4.enabled, enable_ipv6=True
                ),
            )
        log.info("%s: made (%s, %s)", order.name, candidate, candidate.price)
        self._awaited(made, ground)
        return replace(self._server(made.server), status=Server.RUNNING)

    def _awaited(self, made: CreateServerResponse, ground: Ground) -> None:
        """Wait until the new server runs behind its firewall; mend once what failed on the way.

        Raises:
            SoldOutError: its creation failed for want of room; it was removed again.
            CloudBusyError: its creation failed; it was removed again.
        """
        server, timeout = made.server, self._settings.hetzner.create_timeout
        begun = [made.action, *(made.next_actions or [])]
        try:
            self._actions.wait(begun, f"{server.name} to run", timeout=timeout)
        except ActionFailedError as error:
            if "create_server" in error.failed:
                self._remove(server)
                sold_out = SOLD_OUT & {*error.failed.values()}
                raise (SoldOutError if sold_out else CloudBusyError)(str(error)) from None
            log.warning("%s: trying once more: %s", server.name, error)
            if "apply_firewall" in error.failed:
                ground.around.protect(ground.firewall(), server)
            if "start_server" in error.failed:
                self._powered_on(server)

    def _adopted(self, server: BoundServer, order: Order) -> Server:
        """*server*, which is there already: when it is ours, switched on and behind its firewall."""
        if not _is_ours(server, order.registry_id):
            raise RefusedError(
                f"The name {order.name} is taken by a server in this project that is not of this registry: "
                "choose another name for the forest."
            )
        if _node(server) != order.name:
            raise RefusedError(
                f"The name {order.name} is taken by the server of {_node(server)}, which somebody renamed: "
                "give it its name back in the Cloud Console."
            )
        if server.name != order.name:
            log.warning("%s goes on as the node that it was made as", _titled(server))
        if server.status != BoundServer.STATUS_RUNNING:
            server = self._awake(server)
        around = Surroundings(self._api, self._actions, order.registry_id, order.forest)
        firewall = around.ensure_firewall(self._doors)
        if not applied(server, firewall):
            around.protect(firewall, server)
        return self._server(server)

    def _awake(self, server: BoundServer) -> BoundServer:
        """*server* when it runs; what was begun with it is waited for."""

        def now() -> BoundServer:
            for each in self._listing():
                if each.id == server.id:
                    return each
            raise CloudBusyError(f"{server.name} was removed meanwhile.")

        def look() -> BoundServer:
            seen = now()
            if seen.status == BoundServer.STATUS_OFF and not seen.locked:
                self._powered_on(seen)
                return now()
            return seen

        return wait_until(
            f"{server.name} to run",
            look,
            lambda seen: seen.status == BoundServer.STATUS_RUNNING,
            lambda seen: f"{seen.status}{', locked' if seen.locked else ''}",
            timeout=self._settings.hetzner.create_timeout,
            interval=LOOK_EVERY,
        )

    def _powered_on(self, server: BoundServer) -> None:
        with self._api.call(f"switch {server.name} on"):
            action = server.power_on()
        timeout = self._settings.hetzner.create_timeout
        self._actions.wait([action], f"{server.name} to run", timeout=timeout)

    # Removing

    def remove(self, server: BoundServer, registry_id: str) -> None:
        """Delete *server* of ours; what becomes of an address that does not go with it is said."""
        address = self._addresses.staying([server]).get(server.id)
        self._remove(server)
        if address:
            self._addresses.part(address, registry_id, str(server.name))

    def _remove(self, server: BoundServer) -> None:
        """Delete *server* and wait until that is done; while it is locked, its last action ends first."""

        def tried() -> str:
            try:
                with self._api.call(f"delete {server.name}"):
                    action = server.delete()
            except MissingError:
                return ""
            except CloudBusyError as error:
                return str(error)
            try:
                self._actions.wait([action], f"the end of {server.name}", timeout=DELETE_TIMEOUT)
            except MissingError as error:  # that no action is known says nothing of the server: asked again
                return str(error)
            return ""

        what = f"{server.name} to be deleted"
        wait_until(what, tried, lambda fault: not fault, str, timeout=DELETE_TIMEOUT, interval=LOOK_EVERY)


def _is_ours(server: BoundServer, registry_id: str) -> bool:
    return (server.labels or {}).get("registry-id") == registry_id


def _node(server: BoundServer) -> str:
    """The node that a server of ours is: as it was made, though a person may have renamed it since."""
    return (server.labels or {}).get("node-id") or str(server.name)


def _titled(server: BoundServer) -> str:
    """The node, and how to find it in the Cloud Console where that has another name for it."""
    node = _node(server)
    return node if server.name == node else f'{node} ("{server.name}" in the Cloud Console)'


def _order(server: BoundServer) -> tuple[str, bool, int]:
    return (_node(server), server.name == _node(server), server.id or 0)


def _is_protected(server: BoundServer) -> bool:
    return bool((server.protection or {}).get("delete"))  # type: ignore[call-overload]  # annotated wrongly


def _check(order: Order) -> None:
    """Raise InvalidInputError when the API would not take *order*."""
    valid, reason = LabelValidator.validate_verbose(dict(order.labels))
    if not valid:
        raise InvalidInputError(f"The labels of {order.name} cannot be: {reason}.")
    if len(order.user_data.encode()) > MOST_USER_DATA:
        raise InvalidInputError(f"The user data of {order.name} is larger than {MOST_USER_DATA} bytes.")


def check_ipv6(target: str) -> None:
    """Raise MissingPartError when no route leads from here to IPv6 addresses; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 53))
    except OSError as error:
        raise MissingPartError(
            f"This machine has no way to IPv6 addresses ({error.strerror}), and the nodes would have no "
            "other: use a network with IPv6, or give nodes IPv4 as well (machine.ipv4.enabled: true)."
        ) from error


def _address(server: BoundServer) -> str:
    """The address of the node: the first of its IPv6 network, else its IPv4 address."""
    net = server.public_net
    if net and net.ipv6 and net.ipv6.ip:
        return str(ipaddress.IPv6Network(net.ipv6.ip)[1])
    return str(net.ipv4.ip) if net and net.ipv4 else ""

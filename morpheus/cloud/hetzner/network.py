"""What stands around a forest's servers: its firewall, and the groups that keep its nodes apart."""

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from hcloud.actions.domain import Action
from hcloud.firewalls import BoundFirewall
from hcloud.firewalls.domain import Firewall, FirewallResource, FirewallRule
from hcloud.placement_groups import BoundPlacementGroup
from hcloud.servers import BoundServer
from hcloud.servers.domain import PublicNetworkFirewall, Server

from morpheus.cloud import MANAGED_BY
from morpheus.cloud.hetzner.actions import ActionFailedError, Actions
from morpheus.cloud.hetzner.api import Api, AppliedError, MissingError, TakenError
from morpheus.errors import CloudBusyError, CloudError, NotReadyError
from morpheus.forest import Node
from morpheus.settings import FirewallSettings
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.cloud")

CIDRS = 100  # in one rule
RULES_TRIES = 3
GROUP = 10  # servers that one placement group holds
RULES_TIMEOUT, LEAVE_TIMEOUT = 60.0, 60.0  # seconds
LOOK_EVERY = 1.0  # seconds, at a firewall that servers are leaving
PORTS = {"nats": 4222, "leafnode": 7777, "monitoring": 8222}
CLUSTER_PORT = 6222
SSH = "ssh"  # the rules that let it in are told by this, whichever port it has


def selector(registry_id: str, forest: str | None = None) -> str:
    """What chooses the resources of ours: of *forest*, or of all."""
    ours = f"managed-by=={MANAGED_BY},registry-id=={registry_id}"
    return ours if forest is None else f"{ours},forest-id=={forest}"


def labels(registry_id: str, forest: str) -> dict[str, str]:
    return {"managed-by": MANAGED_BY, "registry-id": registry_id, "forest-id": forest}


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in from outside, and on which port SSH answers on new servers."""

    settings: FirewallSettings
    ssh_port: int = 22


def rules(
    settings: FirewallSettings, ssh_ports: Collection[int], addresses: Sequence[str]
) -> list[FirewallRule]:
    """What is let in: what the settings open, pings, and the nodes at *addresses* to each other."""
    doors = [*((SSH, port) for port in sorted(ssh_ports)), *PORTS.items()]
    opened = [
        rule
        for kind, port in doors
        for rule in _rules(kind, port, [str(each) for each in getattr(settings, kind)])
    ]
    pings = FirewallRule("in", "icmp", ["0.0.0.0/0", "::/0"], description="pings")
    return [*opened, pings, *_rules("routes", CLUSTER_PORT, sorted({*_alone(addresses)}))]


def _alone(addresses: Sequence[str]) -> Iterator[str]:
    """Each of *addresses*, which anybody may have written into the registry, as a network of it alone."""
    for each in addresses:
        with contextlib.suppress(ValueError):
            address = ip_address(each)
            if not (isinstance(address, IPv6Address) and address.scope_id):
                yield str(ip_network(address))
                continue
        log.warning("%a is not the address of one machine: no node is let in from there", each)


def _rules(what: str, port: int, sources: list[str]) -> Iterator[FirewallRule]:
    """As many rules as *sources* need, none for none."""
    for k in range(0, len(sources), CIDRS):
        yield FirewallRule("in", "tcp", sources[k : k + CIDRS], port=str(port), description=what)


class Surroundings:
    """Firewall and placement groups of one forest of one registry."""

    def __init__(self, api: Api, actions: Actions, registry_id: str, forest: str) -> None:
        self._api, self._actions = api, actions
        self._registry_id, self._forest = registry_id, forest
        self._labels, self._selector = labels(registry_id, forest), selector(registry_id, forest)

    @property
    def _name(self) -> str:
        return f"{self._forest}-{self._registry_id[:8]}"

    def firewalls(self) -> list[BoundFirewall]:
        with self._api.call(f"find the firewall of {self._forest}"):
            return self._api.client.firewalls.get_all(label_selector=self._selector)

    def ensure_firewall(self, doors: Doors) -> BoundFirewall:
        """The forest's firewall; a new one lets in what the settings open, and no node yet."""
        if known := self.firewalls():
            return known[0]
        with contextlib.suppress(TakenError), self._api.call(f"create the firewall of {self._forest}"):
            made = self._api.client.firewalls.create(
                self._name,
                rules=rules(doors.settings, {doors.ssh_port}, ()),
                labels=self._labels,  # type: ignore[arg-type]  # hcloud's annotation is wrong
            )
            return made.firewall
        if known := self.firewalls():  # the answer to an earlier try was lost
            return known[0]
        raise CloudError(f"Another firewall has the name {self._name}: rename it in the Cloud Console.")

    def ready_firewall(self, doors: Doors) -> BoundFirewall:
        """As :meth:`ensure_firewall`, fit for new servers: one from earlier opens what the settings open now.

        Nodes that reach each other through it go on to do so, and SSH goes on to reach them.
        """
        firewall = self.ensure_firewall(doors)
        known = firewall.rules or []
        self._set(firewall, rules(doors.settings, {doors.ssh_port, *_ssh_ports(known)}, _nodes(known)))
        return firewall

    def admit(self, doors: Doors, addresses: Sequence[str], ssh_ports: Collection[int]) -> None:
        """Let the nodes at *addresses* reach each other, none that was let in before, and SSH those ports."""
        wanted = rules(doors.settings, ssh_ports or {doors.ssh_port}, addresses)
        self._set(self.ensure_firewall(doors), wanted)

    def _set(self, firewall: BoundFirewall, wanted: list[FirewallRule]) -> None:
        if _texts(firewall.rules or []) == _texts(wanted):
            return
        for tries_left in range(RULES_TRIES, 0, -1):  # later the rules look right, also where they failed
            with self._api.call(f"set the rules of the firewall of {self._forest}"):
                begun = firewall.set_rules(wanted)
            try:
                self._actions.wait(begun, f"the firewall of {self._forest}", timeout=RULES_TIMEOUT)
            except ActionFailedError:
                if tries_left == 1:
                    raise
            else:
                return

    def protect(self, firewall: BoundFirewall, server: BoundServer) -> None:
        """Return when *server* is behind *firewall*.

        Raises:
            NotReadyError: an application that was begun before neither ends nor fails.
        """
        if not _listed(server, firewall):
            with contextlib.suppress(AppliedError):
                self._apply(firewall, server)
                return
        if self._comes(firewall, server):
            return
        # The API takes no second application beside one that failed. That one protects nothing, so nothing
        # that works is taken off here, and what is begun next ends the time without a firewall.
        with self._api.call(f"apply the firewall to {server.name} anew"):
            begun = firewall.remove_from_resources(_resources(server))
        self._actions.wait(begun, f"the firewall of {server.name} to go", timeout=RULES_TIMEOUT)
        self._apply(firewall, server)

    def _apply(self, firewall: BoundFirewall, server: BoundServer) -> None:
        with self._api.call(f"apply the firewall to {server.name}"):
            begun = firewall.apply_to_resources(_resources(server))
        self._actions.wait(begun, f"the firewall of {server.name}", timeout=RULES_TIMEOUT)

    def _comes(self, firewall: BoundFirewall, server: BoundServer) -> bool:
        """Whether an application that was begun before, by whomever, came to a good end; waits for that."""
        what = f"the firewall of {server.name}"

        def look() -> bool | None:
            with self._api.call(f"look at what was begun with {what}"):
                begun = server.get_actions_list(sort=["id:desc"], per_page=50).actions
            mine = [each for each in begun if _applies(each, firewall)]
            if running := [each for each in mine if each.status == each.STATUS_RUNNING]:
                with contextlib.suppress(ActionFailedError):
                    self._actions.wait(running, what, timeout=RULES_TIMEOUT)
            try:
                with self._api.call(f"look at {what}"):
                    seen = self._api.client.servers.get_by_id(server.id or 0)
            except MissingError:
                raise CloudBusyError(f"{server.name} was removed meanwhile.") from None
            if applied(seen, firewall):
                return True
            return False if mine and mine[0].status == Action.STATUS_ERROR else None

        ended = wait_until(
            what,
            look,
            lambda comes: comes is not None,
            lambda _: "pending, and nothing that was begun with it failed",
            timeout=RULES_TIMEOUT,
            interval=LOOK_EVERY,
        )
        return bool(ended)

    def groups(self) -> list[BoundPlacementGroup]:
        with self._api.call(f"find the placement groups of {self._forest}"):
            return self._api.client.placement_groups.get_all(label_selector=self._selector)

    def ensure_group(self, node: str, known: Mapping[str, BoundPlacementGroup]) -> BoundPlacementGroup:
        """The group of *node*: ten numbers that follow each other share one."""
        name = f"{self._name}-{(Node(node).number - 1) // GROUP + 1}"
        if name in known:
            return known[name]
        with contextlib.suppress(TakenError), self._api.call(f"create the placement group {name}"):
            create = self._api.client.placement_groups.create
            return create(name, "spread", labels=self._labels).placement_group
        for group in self.groups():
            if group.name == name:
                return group
        raise CloudError(f"Another placement group has the name {name}: rename it in the Cloud Console.")

    def clear(self) -> None:
        """Remove all of it, when no server needs it any more.

        Raises:
            CloudError: the API says that a server still needs some of it.
        """
        for group in self.groups():
            with (
                contextlib.suppress(MissingError),
                self._api.call(f"remove the placement group {group.name}"),
            ):
                group.delete()
        for firewall in self.firewalls():
            self._remove(firewall)

    def _remove(self, firewall: BoundFirewall) -> None:
        def tried() -> str:
            try:
                with self._api.call(f"remove the firewall {firewall.name}"):
                    firewall.delete()
            except MissingError:
                return ""
            except (CloudBusyError, CloudError) as error:  # servers leave it some seconds after they are gone
                return str(error)
            return ""

        what = f"the firewall {firewall.name} to be free"
        try:
            wait_until(what, tried, lambda fault: not fault, str, timeout=LEAVE_TIMEOUT, interval=LOOK_EVERY)
        except NotReadyError as error:
            raise CloudError(f"{error} Run morpheus teardown {self._forest} again later.") from error


def _texts(several: Sequence[FirewallRule]) -> list[tuple[object, ...]]:
    """What matters of rules, in an order of their own."""
    return sorted(
        (each.direction, each.protocol, each.port or "", tuple(sorted(each.source_ips or ())))
        for each in several
    )


def _nodes(several: Sequence[FirewallRule]) -> list[str]:
    """The addresses whose machines may reach nodes of a cluster; wider sources are none."""
    routes = [each for each in several if (each.protocol, each.port) == ("tcp", str(CLUSTER_PORT))]
    sources = [ip_network(source, strict=False) for each in routes for source in each.source_ips or ()]
    return [str(each.network_address) for each in sources if each.prefixlen == each.max_prefixlen]


def _ssh_ports(several: Sequence[FirewallRule]) -> set[int]:
    """The ports to which rules of ours let SSH in."""
    told = [each.port or "" for each in several if each.description == SSH]
    return {int(port) for port in told if port.isdecimal()}


def applied(server: Server, firewall: Firewall) -> bool:
    """Whether *server* is behind *firewall*; one whose application failed stays pending."""
    return PublicNetworkFirewall.STATUS_APPLIED in _listed(server, firewall)


def _listed(server: Server, firewall: Firewall) -> list[str]:
    """The states in which *server* shows *firewall*: none or one."""
    there = (server.public_net.firewalls or []) if server.public_net else []
    return [each.status for each in there if each.firewall.id == firewall.id]


def _applies(action: Action, firewall: Firewall) -> bool:
    """Whether *action*, of a server, applies *firewall*; the API may name the server alone."""
    named = {each["id"] for each in action.resources or () if each["type"] == "firewall"}
    return action.command == "apply_firewall" and named <= {firewall.id}


def _resources(server: Server) -> list[FirewallResource]:
    return [FirewallResource(FirewallResource.TYPE_SERVER, server)]

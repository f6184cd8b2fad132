"""Firewalls: by server at once, by label selector a few seconds later."""

import ipaddress
import re
from collections.abc import Iterable

from tests.simulator.errors import ApiError, invalid, refused
from tests.simulator.labels import check_labels, selects
from tests.simulator.routes.actions import action_view, several
from tests.simulator.routes.call import (
    Call,
    Handler,
    Reply,
    check_free,
    text,
)
from tests.simulator.routes.kind import Kind
from tests.simulator.state import ActionState, FirewallState, Json, ServerState
from tests.simulator.world import World

PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
WITH_PORTS = {"tcp", "udp"}
MOST_RULES, MOST_PER_SERVER, MOST_NETWORKS = 50, 5, 100


def view(world: World, firewall: FirewallState) -> Json:
    direct = [{"type": "server", "server": {"id": each}} for each in firewall.servers]
    chosen = [
        {
            "type": "label_selector",
            "label_selector": {"selector": selector},
            "applied_to_resources": [
                {"type": "server", "server": {"id": server.id}}
                for server in world.servers.values()
                if selects(selector)(server.labels) and firewall.id in server.firewalls
            ],
        }
        for selector in firewall.selectors
    ]
    return {
        "id": firewall.id,
        "name": firewall.name,
        "labels": firewall.labels,
        "created": text(firewall.created),
        "rules": firewall.rules,
        "applied_to": direct + chosen,
    }


FIREWALLS = Kind("firewall", "firewall", lambda world: world.firewalls, view)


def apply(
    world: World, firewall: FirewallState, server: ServerState, after: ActionState | None = None
) -> ActionState:
    """Begin to apply a firewall to a server; it is ``pending`` until the action succeeds."""
    if len(server.firewalls) >= MOST_PER_SERVER:
        raise ApiError(403, "resource_limit_exceeded", "firewall limit of the server exceeded")
    firewall.servers.append(server.id)
    server.firewalls[firewall.id] = "pending"

    def applied() -> None:
        if firewall.id in server.firewalls:
            server.firewalls[firewall.id] = "applied"

    resources = ("firewall", firewall.id), ("server", server.id)
    return world.act("apply_firewall", world.latency.firewall, *resources, effect=applied, after=after)


def follow_labels(world: World) -> None:
    """Let selectors find what changed, two to five seconds from now."""
    if any(each.selectors for each in world.firewalls.values()):
        world.later(world.dice.uniform(2, 5), lambda: _choose(world))


def _choose(world: World) -> None:
    for firewall in world.firewalls.values():
        chosen = [selects(each) for each in firewall.selectors]
        for server in world.servers.values():
            if any(choice(server.labels) for choice in chosen):
                server.firewalls[firewall.id] = "applied"
            elif server.id not in firewall.servers:
                server.firewalls.pop(firewall.id, None)


def create(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_free(world.firewalls, body["name"], "firewall")
    firewall = FirewallState(
        id=world.new_id(),
        name=body["name"],
        created=world.now(),
        labels=dict(body.get("labels", {})),
        rules=_rules(body.get("rules", [])),
    )
    servers, selectors = _resources(call, body.get("apply_to", []), 422)
    world.firewalls[firewall.id] = firewall
    actions = _apply(world, firewall, servers, selectors)
    shown = [action_view(world, each) for each in actions]
    return FIREWALLS.reply(call, firewall, 201, actions=shown)


def delete(call: Call) -> Reply:
    firewall = FIREWALLS.one(call)
    if firewall.servers or firewall.selectors or call.world.faults.is_zombie(firewall.name):
        raise refused("resource_in_use", f"firewall with ID {firewall.id} is still in use")
    del call.world.firewalls[firewall.id]
    return 204, None


def set_rules(call: Call) -> Reply:
    """All rules anew: one action for the firewall, and one for each server it protects."""
    world, firewall = call.world, FIREWALLS.one(call)
    rules = _rules(call.body["rules"])

    def done() -> None:
        firewall.rules = rules

    own = ("firewall", firewall.id)
    actions = [world.act("set_firewall_rules", world.latency.firewall, own, effect=done)]
    for server in world.servers.values():
        if firewall.id in server.firewalls:
            resources = own, ("server", server.id)
            actions.append(world.act("apply_firewall", world.latency.firewall, *resources))
    return several(call, actions)


def apply_to_resources(call: Call) -> Reply:
    firewall = FIREWALLS.one(call)
    servers, selectors = _resources(call, call.body["apply_to"], 404)
    if any(each.id in firewall.servers for each in servers) or set(selectors) & set(firewall.selectors):
        raise refused("firewall_already_applied", "firewall is already applied to the resource")
    return several(call, _apply(call.world, firewall, servers, selectors))


def remove_from_resources(call: Call) -> Reply:
    world, firewall = call.world, FIREWALLS.one(call)
    servers, selectors = _resources(call, call.body["remove_from"], 404)
    for server in servers:
        if server.id not in firewall.servers:
            chosen = firewall.id in server.firewalls
            code = "firewall_managed_by_label_selector" if chosen else "firewall_resource_not_found"
            raise ApiError(422 if chosen else 404, code, "firewall is not applied to the server by id")
    if missing := set(selectors) - set(firewall.selectors):
        raise ApiError(404, "firewall_resource_not_found", f"firewall is not applied to {sorted(missing)}")
    actions = [_remove(world, firewall, server) for server in servers]
    for selector in selectors:
        firewall.selectors.remove(selector)
        world.later(world.dice.uniform(2, 5), lambda: _choose(world))
        actions.append(world.act("remove_firewall", world.latency.firewall, ("firewall", firewall.id)))
    return several(call, actions)


def _remove(world: World, firewall: FirewallState, server: ServerState) -> ActionState:
    def removed() -> None:
        if server.id in firewall.servers:
            firewall.servers.remove(server.id)
        server.firewalls.pop(firewall.id, None)

    resources = ("firewall", firewall.id), ("server", server.id)
    return world.act("remove_firewall", world.latency.firewall, *resources, effect=removed)


def _apply(
    world: World, firewall: FirewallState, servers: Iterable[ServerState], selectors: Iterable[str]
) -> list[ActionState]:
    actions = [apply(world, firewall, server) for server in servers]
    for selector in selectors:
        firewall.selectors.append(selector)
        actions.append(world.act("apply_firewall", world.latency.firewall, ("firewall", firewall.id)))
        follow_labels(world)
    return actions


def _resources(call: Call, resources: list[Json], missing: int) -> tuple[list[ServerState], list[str]]:
    servers, selectors = [], []
    for each in resources:
        if each["type"] == "label_selector" and "label_selector" in each:
            selects(each["label_selector"]["selector"])
            selectors.append(each["label_selector"]["selector"])
            continue
        server = call.world.servers.get(each.get("server", {}).get("id"))
        if server is None:
            raise ApiError(missing, "firewall_resource_not_found", "firewall resource not found")
        if not server.primary_ips:
            raise refused("private_net_only_server", "the server has no public network")
        servers.append(server)
    return servers, selectors


def _rules(rules: list[Json]) -> list[Json]:
    """Rules as they are shown: all keys there. 422 for those that say nothing or too much."""
    if len(rules) > MOST_RULES:
        raise invalid(f"a firewall has at most {MOST_RULES} rules", "rules")
    return [_rule(rule) for rule in rules]


def _rule(rule: Json) -> Json:
    port = rule.get("port")
    if (rule["protocol"] in WITH_PORTS) != (port is not None):
        raise invalid("a port belongs to tcp and udp, and to nothing else", "rules.port")
    if port is not None and not _is_range(port):
        raise invalid(f"port {port!r} is neither a port nor a range", "rules.port")
    peers = "source_ips" if rule["direction"] == "in" else "destination_ips"
    others = "destination_ips" if peers == "source_ips" else "source_ips"
    networks = rule.get(peers) or []
    if not networks or rule.get(others) or len(networks) > MOST_NETWORKS:
        raise invalid(
            f"a rule for {rule['direction']} has 1 to {MOST_NETWORKS} {peers} alone", f"rules.{peers}"
        )
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise invalid(str(error), f"rules.{peers}") from None
    return {
        "direction": rule["direction"],
        "protocol": rule["protocol"],
        "port": port,
        "description": rule.get("description"),
        peers: networks,
        others: [],
    }


def _is_range(port: str) -> bool:
    found = PORTS.fullmatch(port)
    return found is not None and 1 <= int(found[1]) <= int(found[2] or found[1]) <= 65535


ROUTES: dict[str, Handler] = {
    **FIREWALLS.routes,
    "POST /firewalls": create,
    "DELETE /firewalls/{id}": delete,
    "POST /firewalls/{id}/actions/set_rules": set_rules,
    "POST /firewalls/{id}/actions/apply_to_resources": apply_to_resources,
    "POST /firewalls/{id}/actions/remove_from_resources": remove_from_resources,
}

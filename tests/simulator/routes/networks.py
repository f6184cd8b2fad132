"""Networks and placement groups: what servers are put into."""

import ipaddress

from tests.simulator.errors import ApiError, invalid, protected, refused
from tests.simulator.labels import check_labels
from tests.simulator.routes.actions import started
from tests.simulator.routes.call import (
    Call,
    Handler,
    Reply,
    check_free,
    text,
)
from tests.simulator.routes.kind import Kind
from tests.simulator.state import ActionState, Json, NetworkState, PlacementGroupState, ServerState
from tests.simulator.world import World

MOST_IN_GROUP, MOST_GROUPS = 10, 50


def group_view(_: World, group: PlacementGroupState) -> Json:
    return {
        "id": group.id,
        "name": group.name,
        "labels": group.labels,
        "type": "spread",
        "servers": list(group.servers),
        "created": text(group.created),
    }


GROUPS = Kind(
    "placement_group",
    "placement group",
    lambda world: world.placement_groups,
    group_view,
    filters={"type": lambda _: "spread"},
)


def check_room(world: World, group: PlacementGroupState) -> None:
    if len(group.servers) >= MOST_IN_GROUP or world.faults.group_full(group.name):
        message = f"placement group with ID {group.id} contains already {MOST_IN_GROUP} servers"
        raise refused("placement_group_member_limit_reached", message)


def create_group(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_free(world.placement_groups, body["name"], "placement group")
    if len(world.placement_groups) >= MOST_GROUPS:
        raise ApiError(403, "resource_limit_exceeded", "placement group limit exceeded")
    group = PlacementGroupState(
        id=world.new_id(), name=body["name"], created=world.now(), labels=dict(body.get("labels", {}))
    )
    world.placement_groups[group.id] = group
    return GROUPS.reply(call, group, 201, action=None)


def delete_group(call: Call) -> Reply:
    """Refused while it has servers. Whether the API does so too is not known; this is the stricter way."""
    group = GROUPS.one(call)
    if group.servers:
        raise refused("resource_in_use", f"placement group with ID {group.id} is still in use")
    del call.world.placement_groups[group.id]
    return 204, None


def network_view(_: World, network: NetworkState) -> Json:
    return {
        "id": network.id,
        "name": network.name,
        "labels": network.labels,
        "created": text(network.created),
        "ip_range": network.ip_range,
        "subnets": network.subnets,
        "routes": network.routes,
        "servers": list(network.servers),
        "load_balancers": [],
        "protection": network.protection,
        "expose_routes_to_vswitch": network.expose_routes_to_vswitch,
    }


NETWORKS = Kind("network", "network", lambda world: world.networks, network_view)


def attach(
    world: World,
    network: NetworkState,
    server: ServerState,
    wanted: str | None = None,
    after: ActionState | None = None,
) -> ActionState:
    """Begin to attach a server; it has its address when the action has succeeded."""
    if server.id in network.servers:
        raise refused("server_already_attached", "server is already attached to this network")
    if not network.subnets:
        raise refused("no_subnet_available", "network has no subnet")
    taken = {
        each["ip"]
        for other in world.servers.values()
        for each in other.private_net
        if each["network"] == network.id
    }
    hosts = ipaddress.ip_network(network.subnets[0]["ip_range"]).hosts()
    gateway = str(next(hosts))
    ip = wanted or next((str(each) for each in hosts if str(each) not in taken), None)
    if ip is None or ip in taken | {gateway}:
        raise refused("ip_not_available", f"IP {ip or ''} is not available")
    network.servers.append(server.id)

    def attached() -> None:
        mac = f"86:00:00:{server.id >> 16 & 255:02x}:{server.id >> 8 & 255:02x}:{server.id & 255:02x}"
        server.private_net.append({"network": network.id, "ip": ip, "alias_ips": [], "mac_address": mac})

    def failed() -> None:
        network.servers.remove(server.id)

    resources = ("server", server.id), ("network", network.id)
    seconds = world.latency.firewall
    return world.act("attach_to_network", seconds, *resources, effect=attached, failed=failed, after=after)


def create_network(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_free(world.networks, body["name"], "network")
    network = NetworkState(
        id=world.new_id(),
        name=body["name"],
        created=world.now(),
        labels=dict(body.get("labels", {})),
        ip_range=str(_private(body["ip_range"])),
        routes=list(body.get("routes", [])),
        expose_routes_to_vswitch=body.get("expose_routes_to_vswitch", False),
    )
    for subnet in body.get("subnets", []):
        network.subnets.append(_subnet(network, subnet))
    world.networks[network.id] = network
    return NETWORKS.reply(call, network, 201)


def delete_network(call: Call) -> Reply:
    network = NETWORKS.one(call)
    if network.protection["delete"]:
        raise protected("network")
    if network.servers:
        raise refused("resource_in_use", f"network with ID {network.id} is still in use")
    del call.world.networks[network.id]
    return 204, None


def add_subnet(call: Call) -> Reply:
    network = NETWORKS.one(call)
    network.subnets.append(_subnet(network, call.body))
    return _changed(call, network, "add_subnet")


def delete_subnet(call: Call) -> Reply:
    network = NETWORKS.one(call)
    network.subnets = [each for each in network.subnets if each["ip_range"] != call.body["ip_range"]]
    return _changed(call, network, "delete_subnet")


def add_route(call: Call) -> Reply:
    network = NETWORKS.one(call)
    network.routes.append(call.body)
    return _changed(call, network, "add_route")


def delete_route(call: Call) -> Reply:
    network = NETWORKS.one(call)
    network.routes = [each for each in network.routes if each != call.body]
    return _changed(call, network, "delete_route")


def change_network_protection(call: Call) -> Reply:
    network = NETWORKS.one(call)
    network.protection = {"delete": call.body.get("delete", network.protection["delete"])}
    return _changed(call, network, "change_protection")


def _changed(call: Call, network: NetworkState, command: str) -> Reply:
    return started(call, call.world.act(command, 0, ("network", network.id)))


def _subnet(network: NetworkState, wanted: Json) -> Json:
    """A subnet with its gateway; all of a network are in one zone."""
    whole = ipaddress.IPv4Network(network.ip_range)
    given = wanted.get("ip_range")
    subnet = _private(given) if given else next(whole.subnets(new_prefix=max(24, whole.prefixlen)))
    if not subnet.subnet_of(whole):
        raise invalid("subnet is outside of the network", "ip_range")
    if any(each["network_zone"] != wanted["network_zone"] for each in network.subnets):
        raise invalid("all subnets of a network are in one zone", "network_zone")
    if any(subnet.overlaps(ipaddress.IPv4Network(each["ip_range"])) for each in network.subnets):
        raise refused("networks_overlap", "subnets overlap")
    return {
        "type": wanted["type"],
        "ip_range": str(subnet),
        "network_zone": wanted["network_zone"],
        "gateway": str(whole[1]),
        "vswitch_id": wanted.get("vswitch_id"),
    }


def _private(given: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(given)
    except ValueError as error:
        raise invalid(str(error), "ip_range") from None
    if not network.is_private:
        raise invalid("a network has private addresses", "ip_range")
    return network


ROUTES: dict[str, Handler] = {
    **GROUPS.routes,
    "POST /placement_groups": create_group,
    "DELETE /placement_groups/{id}": delete_group,
    **NETWORKS.routes,
    "POST /networks": create_network,
    "DELETE /networks/{id}": delete_network,
    "POST /networks/{id}/actions/add_subnet": add_subnet,
    "POST /networks/{id}/actions/delete_subnet": delete_subnet,
    "POST /networks/{id}/actions/add_route": add_route,
    "POST /networks/{id}/actions/delete_route": delete_route,
    "POST /networks/{id}/actions/change_protection": change_network_protection,
}

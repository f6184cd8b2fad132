"""What is done to servers that exist: power, image, type, protection, networks and groups."""

from functools import partial

from tests.simulator import catalogue, machines
from tests.simulator.errors import ApiError, invalid, protected, refused
from tests.simulator.routes import networks
from tests.simulator.routes.actions import action_view, started
from tests.simulator.routes.call import Call, Handler, Reply, find_by_id
from tests.simulator.routes.servers import image_of, password, unlocked
from tests.simulator.state import ServerState
from tests.simulator.world import World


def _becomes(world: World, server: ServerState, status: str) -> None:
    if status == "running" and server.status != "running":
        server.started = world.now()
    elif status == "off":
        server.started = None
    server.status = status


def _done(world: World, server: ServerState, command: str, status: str) -> None:
    _becomes(world, server, status)
    machines.tell(world, command, server)


def _power(command: str, on_the_way: str | None, status: str) -> Handler:
    """An operation that brings a server from one state to another; of a running one to the same."""

    def change(call: Call) -> Reply:
        world, server = call.world, unlocked(call)
        before = server.status
        if before != status:
            server.status = on_the_way or before
        action = world.act(
            command,
            world.latency.start,
            ("server", server.id),
            effect=partial(_done, world, server, command, status),
            failed=partial(_becomes, world, server, before),
        )
        return started(call, action)

    return change


def rebuild(call: Call) -> Reply:
    """The disk anew from an image; addresses stay, and a new order has the price of today."""
    world, server = call.world, unlocked(call)
    if server.protection["rebuild"]:
        raise protected("server")
    kind = catalogue.SERVER_TYPES[server.server_type]
    image = image_of(call.body["image"], kind.architecture)
    server.status, server.image = "rebuilding", image.id
    server.user_data = call.body.get("user_data", server.user_data)
    server.root_password = None if server.ssh_keys else password(world)
    world.bill("server", server.id, server.name, kind.price)
    running = partial(_done, world, server, "rebuild_server", "running")
    action = world.act("rebuild_server", world.latency.create, ("server", server.id), effect=running)
    return 201, {"action": action_view(world, action), "root_password": server.root_password}


def change_protection(call: Call) -> Reply:
    """Deleting and rebuilding are protected together or not at all."""
    world, server = call.world, unlocked(call)
    wanted = {**server.protection, **call.body}
    if wanted["delete"] != wanted["rebuild"]:
        raise invalid("delete and rebuild must be the same", "delete", "rebuild")
    server.protection = wanted
    return started(call, world.act("change_protection", 0, ("server", server.id)))


def change_type(call: Call) -> Reply:
    world, server = call.world, unlocked(call)
    kinds = {str(key): kind for kind in catalogue.SERVER_TYPES.values() for key in (kind.id, kind.name)}
    kind = kinds.get(str(call.body["server_type"]))
    current = catalogue.SERVER_TYPES[server.server_type]
    if kind is None or kind.architecture != current.architecture or kind.disk < current.disk:
        raise refused("invalid_server_type", "server type does not fit the server")
    _check_off(server)
    if refusal := world.faults.placement(kind.name, server.location, server.name):
        raise refusal

    def changed() -> None:
        server.server_type = kind.name
        world.bill("server", server.id, server.name, kind.price)

    action = world.act("change_server_type", world.latency.create, ("server", server.id), effect=changed)
    return started(call, action)


def attach_to_network(call: Call) -> Reply:
    server = unlocked(call)
    network = find_by_id(call.world.networks, call.body["network"], "network")
    return started(call, networks.attach(call.world, network, server, call.body.get("ip")))


def detach_from_network(call: Call) -> Reply:
    world, server = call.world, unlocked(call)
    network = find_by_id(world.networks, call.body["network"], "network")
    if server.id not in network.servers:
        raise ApiError(404, "not_found", "server is not attached to the network")

    def detached() -> None:
        network.servers.remove(server.id)
        server.private_net = [each for each in server.private_net if each["network"] != network.id]

    resources = ("server", server.id), ("network", network.id)
    return started(
        call, world.act("detach_from_network", world.latency.firewall, *resources, effect=detached)
    )


def add_to_placement_group(call: Call) -> Reply:
    world, server = call.world, unlocked(call)
    group = find_by_id(world.placement_groups, call.body["placement_group"], "placement group")
    _check_off(server)
    if server.placement_group:
        raise refused("server_already_added", "server is in a placement group already")
    networks.check_room(world, group)
    group.servers.append(server.id)
    server.placement_group = group.id
    hosts = {world.servers[each].hypervisor for each in group.servers if each != server.id}
    if server.hypervisor in hosts:
        server.hypervisor = world.dice.choice([each for each in range(1, 201) if each not in hosts])
    return started(call, world.act("add_to_placement_group", 0, ("server", server.id)))


def remove_from_placement_group(call: Call) -> Reply:
    world, server = call.world, unlocked(call)
    if group := world.placement_groups.get(server.placement_group or 0):
        group.servers.remove(server.id)
        server.placement_group = None
    return started(call, world.act("remove_from_placement_group", 0, ("server", server.id)))


def change_dns_ptr(call: Call) -> Reply:
    server = unlocked(call)
    if (name := call.body["dns_ptr"]) is None:
        server.reverse.pop(call.body["ip"], None)
    else:
        server.reverse[call.body["ip"]] = name
    return started(call, call.world.act("change_dns_ptr", 0, ("server", server.id)))


def reset_password(call: Call) -> Reply:
    server = unlocked(call)
    if server.status != "running":
        raise refused("server_not_running", "the guest must run to get a new password")
    server.root_password = password(call.world)
    action = call.world.act("reset_password", 0, ("server", server.id))
    return 201, {"action": action_view(call.world, action), "root_password": server.root_password}


def _check_off(server: ServerState) -> None:
    if server.status != "off":
        raise refused("server_not_stopped", "server is not stopped")


_OF_SERVER = {
    "poweron": _power("start_server", "starting", "running"),
    "poweroff": _power("stop_server", "stopping", "off"),
    "shutdown": _power("shutdown_server", "stopping", "off"),
    "reboot": _power("reboot_server", None, "running"),
    "reset": _power("reset_server", None, "running"),
    "rebuild": rebuild,
    "change_protection": change_protection,
    "change_type": change_type,
    "attach_to_network": attach_to_network,
    "detach_from_network": detach_from_network,
    "add_to_placement_group": add_to_placement_group,
    "remove_from_placement_group": remove_from_placement_group,
    "change_dns_ptr": change_dns_ptr,
    "reset_password": reset_password,
}

ROUTES: dict[str, Handler] = {
    f"POST /servers/{{id}}/actions/{name}": handler for name, handler in _OF_SERVER.items()
}

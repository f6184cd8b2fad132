"""Servers: create, look, rename, delete. What is done to a running one is in server_actions."""

import string
from functools import partial

from tests.simulator import catalogue, machines
from tests.simulator.errors import ApiError, invalid, locked, not_found, protected, refused
from tests.simulator.labels import check_hostname, check_labels
from tests.simulator.routes import firewalls, networks, primary_ips
from tests.simulator.routes.actions import action_view, started
from tests.simulator.routes.call import (
    Call,
    Handler,
    Reply,
    check_free,
    find_by_id,
    listed,
    named,
    text,
    update,
)
from tests.simulator.routes.orders import image_view, location_view, server_type_view
from tests.simulator.state import (
    ActionState,
    FirewallState,
    Json,
    NetworkState,
    PlacementGroupState,
    PrimaryIPState,
    ServerState,
)
from tests.simulator.world import World

MOST_USER_DATA = 32 * 1024


def view(world: World, server: ServerState) -> Json:
    group = world.placement_groups.get(server.placement_group or 0)
    return {
        "id": server.id,
        "name": server.name,
        "status": server.status,
        "created": text(server.created),
        "labels": server.labels,
        "locked": world.busy("server", server.id) or world.faults.shows_locked(server.name),
        "protection": server.protection,
        "public_net": _public_net(server),
        "private_net": server.private_net,
        "server_type": server_type_view(world, catalogue.SERVER_TYPES[server.server_type]),
        "location": location_view(catalogue.LOCATIONS[server.location]),
        "image": image_view(world, catalogue.IMAGES[server.image]),
        "placement_group": networks.group_view(world, group) if group else None,
        "primary_disk_size": catalogue.SERVER_TYPES[server.server_type].disk,
        "backup_window": None,
        "iso": None,
        "rescue_enabled": False,
        "included_traffic": 20 * 2**40,
        "ingoing_traffic": 0,
        "outgoing_traffic": 0,
        "volumes": [],
        "load_balancers": [],
    }


def _public_net(server: ServerState) -> Json:
    ipv4 = ipv6 = None
    if server.ipv4:
        name = server.reverse.get(server.ipv4, f"static.{server.ipv4}.example.com")
        ipv4 = {
            "id": server.primary_ips["ipv4"],
            "ip": server.ipv4,
            "blocked": False,
            "dns_ptr": name,
        }
    if server.ipv6:
        names = [{"ip": ip, "dns_ptr": name} for ip, name in server.reverse.items() if ":" in ip]
        ipv6 = {
            "id": server.primary_ips["ipv6"],
            "ip": server.ipv6,
            "blocked": False,
            "dns_ptr": names,
        }
    shown = [{"id": number, "status": status} for number, status in server.firewalls.items()]
    return {"ipv4": ipv4, "ipv6": ipv6, "floating_ips": [], "firewalls": shown}


def server_of(call: Call) -> ServerState:
    return find_by_id(call.world.servers, call.path["id"], "server")


def unlocked(call: Call) -> ServerState:
    """Return the server of a call; 423 while an action runs on it."""
    server = server_of(call)
    if call.world.busy("server", server.id) or call.world.faults.refuses(server.name):
        raise locked("server")
    return server


def create(call: Call) -> Reply:
    """Everything asked for is looked at before anything is made."""
    world, body = call.world, call.body
    server = _ordered(call)
    group = _group(call)
    chosen = [find_by_id(world.firewalls, each["firewall"], "firewall") for each in body.get("firewalls", [])]
    joined = [find_by_id(world.networks, each, "network") for each in body.get("networks", [])]
    if len(chosen) > firewalls.MOST_PER_SERVER:
        raise invalid(f"a server has at most {firewalls.MOST_PER_SERVER} firewalls", "firewalls")
    if any(not each.subnets for each in joined):
        raise refused("no_subnet_available", "network has no subnet")
    addresses = _addresses(call, server)
    if refusal := world.faults.placement(server.server_type, server.location, server.name):
        raise refusal

    server.hypervisor = _hypervisor(world, group)
    world.servers[server.id] = server
    for kind, reserved in addresses.items():
        address = reserved or primary_ips.add(world, kind, server.location, auto_delete=True)
        primary_ips.assign_to(address, server)
    if group:
        group.servers.append(server.id)
        server.placement_group = group.id
    world.bill("server", server.id, server.name, catalogue.SERVER_TYPES[server.server_type].price)
    machines.tell(world, "create_server", server)
    starts = body.get("start_after_create", True) is not False
    action, *next_actions = _begun(world, server, starts, chosen, joined)
    return 201, {
        "server": view(world, server),
        "action": action_view(world, action),
        "next_actions": [action_view(world, each) for each in next_actions],
        "root_password": server.root_password,
    }


def _begun(
    world: World,
    server: ServerState,
    starts: bool,
    chosen: list[FirewallState],
    joined: list[NetworkState],
) -> list[ActionState]:
    """Begin to create a server, and after that to start, protect and attach it: each may fail on its own."""
    own, off = ("server", server.id), partial(_set_status, server, "off")
    created = partial(_set_status, server, "starting" if starts else "off")
    create = world.act("create_server", world.latency.create, own, effect=created, failed=off)
    actions = [create]
    if starts:
        run = partial(_running, world, server)
        actions.append(
            world.act("start_server", world.latency.start, own, effect=run, failed=off, after=create)
        )
    actions += [firewalls.apply(world, each, server, create) for each in chosen]
    actions += [networks.attach(world, each, server, after=create) for each in joined]
    firewalls.follow_labels(world)
    return actions


def _ordered(call: Call) -> ServerState:
    """The server a body describes, which nothing knows yet; errors for what it asks in vain."""
    world, body = call.world, call.body
    check_hostname(body["name"])
    check_labels(body.get("labels"))
    user_data = body.get("user_data", "")
    if len(user_data.encode()) > MOST_USER_DATA:
        raise invalid(f"user_data is longer than {MOST_USER_DATA} bytes", "user_data")
    check_free(world.servers, body["name"], "server")
    kind = _server_type(call)
    location = location_name(call, kind)
    keys = [_key(call, each) for each in body.get("ssh_keys", [])]
    return ServerState(
        id=world.new_id(),
        name=body["name"],
        created=world.now(),
        labels=dict(body.get("labels", {})),
        server_type=kind.name,
        location=location,
        image=image_of(body["image"], kind.architecture).id,
        user_data=user_data,
        ssh_keys=keys,
        root_password=None if keys else password(world),
        hypervisor=0,
    )


def _server_type(call: Call) -> catalogue.ServerType:
    given = call.body["server_type"]
    for kind in catalogue.SERVER_TYPES.values():
        if given in (kind.id, str(kind.id), kind.name):
            if kind.name in call.world.deprecated and call.world.deprecated[kind.name][1] <= call.world.now():
                raise invalid(f"server type {kind.name} is deprecated", "server_type")
            return kind
    raise invalid(f"server_type '{given}' not found", "server_type")


def location_name(call: Call, kind: catalogue.ServerType) -> str:
    given = call.body.get("location")
    if given is None:
        return kind.locations[0]
    for each in catalogue.LOCATIONS.values():
        if given in (each.id, str(each.id), each.name):
            if each.name not in kind.locations:
                raise ApiError(422, "invalid_input", "unsupported location for server type", {})
            return each.name
    raise invalid(f"location '{given}' not found", "location")


def image_of(given: str | int, architecture: str) -> catalogue.Image:
    """Return an image by id or, of its architecture, by name."""
    for image in catalogue.IMAGES.values():
        if given in (image.id, str(image.id)):
            if image.architecture != architecture:
                raise invalid("image and server type differ in architecture", "image")
            return image
        if (given, architecture) == (image.name, image.architecture):
            return image
    raise invalid(f"image '{given}' not found", "image")


def _key(call: Call, given: str | int) -> int:
    key = named(call.world.ssh_keys, given)
    if key is None:
        raise not_found("SSH key", given)
    return key.id


def _group(call: Call) -> PlacementGroupState | None:
    given = call.body.get("placement_group")
    if given is None:
        return None
    group = find_by_id(call.world.placement_groups, given, "placement group")
    networks.check_room(call.world, group)
    return group


def _addresses(call: Call, server: ServerState) -> dict[str, PrimaryIPState | None]:
    """The addresses a server is to have: those it was given, None for new ones; 403 beyond the limits."""
    world, public = call.world, call.body.get("public_net", {})
    kinds = [each for each in ("ipv4", "ipv6") if public.get(f"enable_{each}", True)]
    if len(world.servers) >= world.limits.servers:
        limits = {"limits": [{"name": "project_limit"}]}
        raise ApiError(403, "resource_limit_exceeded", "server limit exceeded", limits)
    primary_ips.check_limit(world, sum(1 for each in kinds if not public.get(each)))
    return {each: _reserved(call, server, each, public[each]) if public.get(each) else None for each in kinds}


def _reserved(call: Call, server: ServerState, kind: str, number: int) -> PrimaryIPState:
    address = find_by_id(call.world.primary_ips, number, "primary IP")
    if address.server:
        raise ApiError(422, "primary_ip_assigned", "primary IP is already assigned")
    if address.type != kind:
        raise ApiError(422, "primary_ip_version_mismatch", f"primary IP is no {kind}")
    if address.location != server.location:
        raise ApiError(422, "primary_ip_datacenter_mismatch", "primary IP is in another location")
    return address


def _hypervisor(world: World, group: PlacementGroupState | None) -> int:
    """Any host; in a spread group one that no other member is on."""
    hosts = {world.servers[each].hypervisor for each in group.servers} if group else set()
    return world.dice.choice([each for each in range(1, 201) if each not in hosts])


def password(world: World) -> str:
    return "".join(world.dice.choices(string.ascii_letters + string.digits, k=20))


def _set_status(server: ServerState, status: str) -> None:
    server.status = status


def _running(world: World, server: ServerState) -> None:
    server.status, server.started = "running", world.now()
    machines.tell(world, "start_server", server)


def get_list(call: Call) -> Reply:
    servers = call.world.servers.values()
    return listed(
        call, "servers", servers, lambda each: view(call.world, each), status=lambda each: each.status
    )


def get(call: Call) -> Reply:
    return 200, {"server": view(call.world, server_of(call))}


def put(call: Call) -> Reply:
    server = server_of(call)
    if "name" in call.body:
        check_hostname(call.body["name"])
    update(call, call.world.servers, server, "server")
    call.world.rename_bill("server", server.id, server.name)
    firewalls.follow_labels(call.world)
    return 200, {"server": view(call.world, server)}


def delete(call: Call) -> Reply:
    world, server = call.world, unlocked(call)
    if server.protection["delete"]:
        raise protected("server")
    before, server.status = server.status, "deleting"
    action = world.act(
        "delete_server",
        world.latency.delete,
        ("server", server.id),
        effect=partial(_deleted, world, server),
        failed=partial(_set_status, server, before),
    )
    return started(call, action, status=200)


def _deleted(world: World, server: ServerState) -> None:
    machines.tell(world, "delete_server", server)
    del world.servers[server.id]
    world.close_bill("server", server.id)
    primary_ips.release(world, server)
    holders: list[FirewallState | PlacementGroupState | NetworkState] = [
        *world.firewalls.values(),
        *world.placement_groups.values(),
        *world.networks.values(),
    ]
    for members in (each.servers for each in holders):
        if server.id in members:
            members.remove(server.id)


ROUTES: dict[str, Handler] = {
    "GET /servers": get_list,
    "POST /servers": create,
    "GET /servers/{id}": get,
    "PUT /servers/{id}": put,
    "DELETE /servers/{id}": delete,
}

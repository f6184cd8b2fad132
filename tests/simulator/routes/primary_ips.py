"""Primary IPs: addresses that are paid for, assigned or not."""

from tests.simulator import catalogue
from tests.simulator.errors import ApiError, invalid, protected, refused
from tests.simulator.labels import check_labels
from tests.simulator.routes.actions import action_view, started
from tests.simulator.routes.call import (
    Call,
    Handler,
    Reply,
    check_free,
    find_by_id,
    location_of,
    text,
)
from tests.simulator.routes.kind import Kind
from tests.simulator.routes.orders import location_view
from tests.simulator.state import Json, PrimaryIPState, ServerState
from tests.simulator.world import World


def view(_: World, address: PrimaryIPState) -> Json:
    return {
        "id": address.id,
        "name": address.name,
        "type": address.type,
        "ip": address.ip,
        "location": location_view(catalogue.LOCATIONS[address.location]),
        "assignee_type": "server" if address.server else "unassigned",
        "assignee_id": address.server,
        "auto_delete": address.auto_delete,
        "blocked": False,
        "dns_ptr": [{"ip": ip, "dns_ptr": name} for ip, name in address.reverse.items()],
        "protection": address.protection,
        "labels": address.labels,
        "created": text(address.created),
    }


def _changed(call: Call, address: PrimaryIPState) -> None:
    address.auto_delete = call.body.get("auto_delete", address.auto_delete)
    call.world.rename_bill("primary_ip", address.id, address.name)


ADDRESSES = Kind(
    "primary_ip",
    "primary IP",
    lambda world: world.primary_ips,
    view,
    filters={"ip": lambda address: address.ip},
    changed=_changed,
)


def add(
    world: World, kind: str, location: str, name: str | None = None, *, auto_delete: bool
) -> PrimaryIPState:
    """Make an address. They are from the ranges kept for documentation and benchmarks.

    Raises:
        ApiError: 403, the project has as many as it may.
    """
    check_limit(world, 1)
    number = world.new_id()
    high, low = divmod(number, 2**16)
    ip = f"2001:db8:{high + 1:x}:{low:x}::/64" if kind == "ipv6" else f"198.18.{low // 256}.{low % 256}"
    address = PrimaryIPState(
        id=number,
        name=name or f"primary_ip-{number}",
        created=world.now(),
        type=kind,
        ip=ip,
        location=location,
        auto_delete=auto_delete,
    )
    world.primary_ips[number] = address
    world.bill("primary_ip", number, address.name, catalogue.PRIMARY_IP[kind])
    return address


def check_limit(world: World, more: int) -> None:
    if len(world.primary_ips) + more > world.limits.primary_ips:
        limits = {"limits": [{"name": "primary_ip_limit"}]}
        raise ApiError(403, "resource_limit_exceeded", "Primary IP limit exceeded", limits)


def assign_to(address: PrimaryIPState, server: ServerState) -> None:
    address.server = server.id
    server.primary_ips[address.type] = address.id
    setattr(server, address.type, address.ip)


def release(world: World, server: ServerState) -> None:
    """Part a server from its addresses; those it was created with go with it."""
    for number in server.primary_ips.values():
        address = world.primary_ips[number]
        address.server = None
        if address.auto_delete:
            remove(world, address)


def remove(world: World, address: PrimaryIPState) -> None:
    del world.primary_ips[address.id]
    world.close_bill("primary_ip", address.id)


def create(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_free(world.primary_ips, body["name"], "primary IP")
    server = _server(call, body["assignee_id"]) if body.get("assignee_id") else None
    if server is None and "location" not in body:
        raise invalid("either a location or an assignee is needed", "location")
    if server:
        _check_assignable(server, body["type"])
    location = server.location if server else location_of(body["location"]).name
    address = add(world, body["type"], location, body["name"], auto_delete=body.get("auto_delete", False))
    address.labels = dict(body.get("labels", {}))
    if server is None:
        return ADDRESSES.reply(call, address, 201)
    assign_to(address, server)
    action = world.act("assign_primary_ip", 0, ("primary_ip", address.id), ("server", server.id))
    return ADDRESSES.reply(call, address, 201, action=action_view(world, action))


def delete(call: Call) -> Reply:
    address = ADDRESSES.one(call)
    if address.protection["delete"]:
        raise protected("primary IP")
    if address.server:
        raise refused("must_be_unassigned", "primary IP must be unassigned before it is deleted")
    remove(call.world, address)
    return 204, None


def assign(call: Call) -> Reply:
    world, address = call.world, ADDRESSES.one(call)
    if address.server:
        raise refused("primary_ip_already_assigned", "primary IP is already assigned")
    server = _server(call, call.body["assignee_id"])
    _check_assignable(server, address.type)
    assign_to(address, server)
    return started(call, world.act("assign_primary_ip", 0, ("primary_ip", address.id), ("server", server.id)))


def unassign(call: Call) -> Reply:
    world, address = call.world, ADDRESSES.one(call)
    server = world.servers.get(address.server or 0)
    if server and server.status != "off":
        raise refused("server_not_stopped", "server is not stopped")
    if server:
        server.primary_ips.pop(address.type)
        setattr(server, address.type, None)
        address.server = None
    return started(call, world.act("unassign_primary_ip", 0, ("primary_ip", address.id)))


def change_protection(call: Call) -> Reply:
    address = ADDRESSES.one(call)
    address.protection = {"delete": call.body.get("delete", address.protection["delete"])}
    return started(call, call.world.act("change_protection", 0, ("primary_ip", address.id)))


def change_dns_ptr(call: Call) -> Reply:
    address = ADDRESSES.one(call)
    address.reverse[call.body["ip"]] = call.body["dns_ptr"]
    return started(call, call.world.act("change_dns_ptr", 0, ("primary_ip", address.id)))


def _check_assignable(server: ServerState, kind: str) -> None:
    if server.status != "off":
        raise refused("server_not_stopped", "server is not stopped")
    if kind in server.primary_ips:
        raise refused(f"server_has_{kind}", f"server has an {kind} already")


def _server(call: Call, number: int) -> ServerState:
    return find_by_id(call.world.servers, number, "server")


ROUTES: dict[str, Handler] = {
    **ADDRESSES.routes,
    "POST /primary_ips": create,
    "DELETE /primary_ips/{id}": delete,
    "POST /primary_ips/{id}/actions/assign": assign,
    "POST /primary_ips/{id}/actions/unassign": unassign,
    "POST /primary_ips/{id}/actions/change_protection": change_protection,
    "POST /primary_ips/{id}/actions/change_dns_ptr": change_dns_ptr,
}

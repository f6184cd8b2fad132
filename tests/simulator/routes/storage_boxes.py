"""Storage boxes: order, settings, passwords, snapshots. Their subaccounts are in subaccounts."""

from tests.simulator import catalogue
from tests.simulator.errors import invalid, locked, protected
from tests.simulator.labels import check_labels
from tests.simulator.routes.actions import action_view, started
from tests.simulator.routes.call import (
    Call,
    Handler,
    Reply,
    allowed,
    check_free,
    find_by_id,
    listed,
    location_of,
    text,
    update,
)
from tests.simulator.routes.orders import box_type_view, location_view
from tests.simulator.state import Json, SnapshotState, StorageBoxState
from tests.simulator.world import World

SETTINGS = ("reachable_externally", "samba_enabled", "ssh_enabled", "webdav_enabled", "zfs_enabled")
SPECIAL = "^°!§$%/()=?+#-.,;:~*@{}_&"
LETTERS = "äöüßÄÖÜ"
SNAPSHOTS = 10


def view(world: World, box: StorageBoxState) -> Json:
    size = len(box.snapshots) * 2**20
    return {
        "id": box.id,
        "name": box.name,
        "status": box.status,
        "username": box.username,
        "server": box.server,
        "system": "FSN1-BX1337" if box.username else None,
        "storage_box_type": box_type_view(world, catalogue.BOX_TYPES[box.box_type]),
        "location": location_view(catalogue.LOCATIONS[box.location]),
        "access_settings": box.access_settings,
        "stats": {"size": size, "size_data": 0, "size_snapshots": size},
        "snapshot_plan": box.snapshot_plan,
        "labels": box.labels,
        "protection": box.protection,
        "created": text(box.created),
    }


def check_password(password: str) -> None:
    """Refuse what the policy does not allow: 12 to 128 characters, four classes, no others."""
    plain = [each for each in password if (each.isascii() and each.isalnum()) or each in LETTERS]
    special = [each for each in password if each in SPECIAL + " "]
    classes = (str.isupper, str.islower, str.isdigit)
    if (
        not 12 <= len(password) <= 128
        or len(plain) + len(special) != len(password)
        or not special
        or not all(any(map(test, plain)) for test in classes)
    ):
        raise invalid("password does not meet the policy", "password")


def box_of(call: Call) -> StorageBoxState:
    return find_by_id(call.world.storage_boxes, call.path["id"], "storage box")


def active(call: Call) -> StorageBoxState:
    """Return the box of a call; 423 while an action runs on it."""
    box = box_of(call)
    if box.status != "active" or call.world.busy("storage_box", box.id):
        raise locked("storage box")
    return box


def create(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_password(body["password"])
    check_free(world.storage_boxes, body["name"], "storage box")
    kind = _type(body["storage_box_type"])
    location = location_of(body["location"]).name
    if location not in catalogue.EUROPE:
        raise invalid("unsupported location for storage box type", "location")
    box = StorageBoxState(
        id=world.new_id(),
        name=body["name"],
        created=world.now(),
        labels=dict(body.get("labels", {})),
        box_type=kind.name,
        location=location,
        password=body["password"],
        access_settings=allowed(body.get("access_settings", {}), *SETTINGS),
        ssh_keys=list(body.get("ssh_keys", [])),
    )
    world.storage_boxes[box.id] = box
    world.bill("storage_box", box.id, box.name, kind.price)

    def ready() -> None:
        box.status, box.username = "active", f"u{box.id}"
        box.server = world.box_host(box.username)

    action = world.act("create", world.latency.box, ("storage_box", box.id), effect=ready)
    return 201, {"storage_box": view(world, box), "action": action_view(world, action)}


def get_list(call: Call) -> Reply:
    boxes = call.world.storage_boxes.values()
    return listed(call, "storage_boxes", boxes, lambda box: view(call.world, box))


def get(call: Call) -> Reply:
    return 200, {"storage_box": view(call.world, box_of(call))}


def put(call: Call) -> Reply:
    box = box_of(call)
    update(call, call.world.storage_boxes, box, "storage box")
    call.world.rename_bill("storage_box", box.id, box.name)
    return 200, {"storage_box": view(call.world, box)}


def delete(call: Call) -> Reply:
    world, box = call.world, box_of(call)
    if box.protection["delete"]:
        raise protected("storage box")
    if world.busy("storage_box", box.id):
        raise locked("storage box")

    def deleted() -> None:
        del world.storage_boxes[box.id]
        world.close_bill("storage_box", box.id)

    return started(call, world.act("delete", world.latency.delete, ("storage_box", box.id), effect=deleted))


def change_protection(call: Call) -> Reply:
    box = active(call)
    box.protection = {"delete": call.body.get("delete", box.protection["delete"])}
    return _done(call, box, "change_protection")


def change_type(call: Call) -> Reply:
    box, kind = active(call), _type(call.body["storage_box_type"])
    box.box_type = kind.name
    call.world.bill("storage_box", box.id, box.name, kind.price)
    return _done(call, box, "change_type")


def reset_password(call: Call) -> Reply:
    box = active(call)
    check_password(call.body["password"])
    box.password = call.body["password"]
    return _done(call, box, "reset_password")


def update_access_settings(call: Call) -> Reply:
    """Settings that are not named stay as they are."""
    box = active(call)
    box.access_settings |= {name: value for name, value in call.body.items() if name in SETTINGS}
    return _done(call, box, "update_access_settings")


def enable_snapshot_plan(call: Call) -> Reply:
    box = active(call)
    box.snapshot_plan = {"day_of_week": None, "day_of_month": None, **call.body}
    return _done(call, box, "enable_snapshot_plan")


def disable_snapshot_plan(call: Call) -> Reply:
    box = active(call)
    box.snapshot_plan = None
    return _done(call, box, "disable_snapshot_plan")


def rollback_snapshot(call: Call) -> Reply:
    """Back to a snapshot; those made after it are gone."""
    box = active(call)
    given = str(call.body["snapshot"])
    wanted = [each for each in box.snapshots.values() if given in (str(each.id), each.name)]
    if not wanted:
        raise invalid(f"snapshot '{given}' not found", "snapshot")
    box.snapshots = {key: each for key, each in box.snapshots.items() if key <= wanted[0].id}
    return _done(call, box, "rollback_snapshot")


def folders(call: Call) -> Reply:
    """The folders the API knows of: those of the subaccounts."""
    homes = {each.home_directory for each in active(call).subaccounts.values()}
    return 200, {"folders": sorted(homes)}


def snapshot_view(snapshot: SnapshotState) -> Json:
    return {
        "id": snapshot.id,
        "storage_box": snapshot.box,
        "name": snapshot.name,
        "description": snapshot.description,
        "stats": {"size": 2**20, "size_filesystem": 0},
        "is_automatic": False,
        "labels": snapshot.labels,
        "created": text(snapshot.created),
    }


def create_snapshot(call: Call) -> Reply:
    """Answers with the ids alone."""
    world, box = call.world, active(call)
    check_labels(call.body.get("labels"))
    if len(box.snapshots) >= SNAPSHOTS:
        raise invalid("snapshot limit reached")
    snapshot = SnapshotState(
        id=world.new_id(),
        name=world.now().strftime("%Y-%m-%dT%H-%M-%S"),
        created=world.now(),
        labels=dict(call.body.get("labels", {})),
        box=box.id,
        description=call.body.get("description", ""),
    )
    box.snapshots[snapshot.id] = snapshot
    resources = ("storage_box", box.id), ("storage_box_snapshot", snapshot.id)
    action = world.act("create_snapshot", world.latency.start, *resources)
    partial = {"id": snapshot.id, "storage_box": box.id}
    return 201, {"snapshot": partial, "action": action_view(world, action)}


def list_snapshots(call: Call) -> Reply:
    found = box_of(call).snapshots.values()
    _, shown = listed(call, "snapshots", found, snapshot_view, is_automatic=lambda _: "false")
    return 200, {"snapshots": (shown or {})["snapshots"]}


def get_snapshot(call: Call) -> Reply:
    return 200, {"snapshot": snapshot_view(_snapshot(call))}


def put_snapshot(call: Call) -> Reply:
    snapshot = _snapshot(call)
    check_labels(call.body.get("labels"))
    snapshot.labels = dict(call.body.get("labels", snapshot.labels))
    snapshot.description = call.body.get("description", snapshot.description)
    return 200, {"snapshot": snapshot_view(snapshot)}


def delete_snapshot(call: Call) -> Reply:
    box, snapshot = active(call), _snapshot(call)
    del box.snapshots[snapshot.id]
    return _done(call, box, "delete_snapshot")


def _snapshot(call: Call) -> SnapshotState:
    return find_by_id(box_of(call).snapshots, call.path["snapshot_id"], "snapshot")


def _done(call: Call, box: StorageBoxState, command: str) -> Reply:
    return started(call, call.world.act(command, 0, ("storage_box", box.id)))


def _type(given: str | int) -> catalogue.BoxType:
    for kind in catalogue.BOX_TYPES.values():
        if given in (kind.id, str(kind.id), kind.name):
            return kind
    raise invalid(f"storage box type '{given}' not found", "storage_box_type")


_ACTIONS = {
    "change_protection": change_protection,
    "change_type": change_type,
    "reset_password": reset_password,
    "update_access_settings": update_access_settings,
    "enable_snapshot_plan": enable_snapshot_plan,
    "disable_snapshot_plan": disable_snapshot_plan,
    "rollback_snapshot": rollback_snapshot,
}

ROUTES: dict[str, Handler] = {
    "GET /storage_boxes": get_list,
    "POST /storage_boxes": create,
    "GET /storage_boxes/{id}": get,
    "PUT /storage_boxes/{id}": put,
    "DELETE /storage_boxes/{id}": delete,
    "GET /storage_boxes/{id}/folders": folders,
    "GET /storage_boxes/{id}/snapshots": list_snapshots,
    "POST /storage_boxes/{id}/snapshots": create_snapshot,
    "GET /storage_boxes/{id}/snapshots/{snapshot_id}": get_snapshot,
    "PUT /storage_boxes/{id}/snapshots/{snapshot_id}": put_snapshot,
    "DELETE /storage_boxes/{id}/snapshots/{snapshot_id}": delete_snapshot,
    **{f"POST /storage_boxes/{{id}}/actions/{name}": handler for name, handler in _ACTIONS.items()},
}

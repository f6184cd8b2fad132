"""Actions, which have one range of ids over all resources and are served in many places."""

from collections.abc import Iterable

from tests.simulator.errors import ApiError, not_found
from tests.simulator.routes.call import Call, Handler, Reply, find_by_id, listed, text
from tests.simulator.state import ActionState, Json
from tests.simulator.world import World

OWNERS = {
    "servers": "server",
    "firewalls": "firewall",
    "networks": "network",
    "primary_ips": "primary_ip",
    "storage_boxes": "storage_box",
    "zones": "zone",
}


def action_view(world: World, action: ActionState) -> Json:
    ended = action.status != "running"
    return {
        "id": action.id,
        "command": action.command,
        "status": action.status,
        "progress": 100 if ended else _progress(world, action),
        "started": text(action.started),
        "finished": text(action.ends) if ended else None,
        "resources": [{"id": number, "type": kind} for kind, number in action.resources],
        "error": {"code": action.error[0], "message": action.error[1]} if action.error and ended else None,
    }


def started(call: Call, *actions: ActionState, status: int = 201) -> Reply:
    """Answer with the only action that was begun."""
    return status, {"action": action_view(call.world, actions[0])}


def several(call: Call, actions: Iterable[ActionState]) -> Reply:
    return 201, {"actions": [action_view(call.world, each) for each in actions]}


def _progress(world: World, action: ActionState) -> int:
    whole = (action.ends - action.started).total_seconds()
    passed = (world.now() - action.started).total_seconds()
    return int(99 * passed / whole) if whole else 0


def get_many(call: Call) -> Reply:
    """Actions by ids; without any this endpoint is gone."""
    wanted = call.query.get("id")
    if not wanted:
        raise ApiError(410, "deprecated_api_endpoint", "listing all actions was removed; ask for ids")
    known = (call.world.actions.get(int(each)) for each in wanted)
    return 200, {"actions": [action_view(call.world, each) for each in known if each]}


def get_one(call: Call) -> Reply:
    action = find_by_id(call.world.actions, call.path.get("action_id", call.path.get("id", "")), "action")
    return 200, {"action": action_view(call.world, action)}


def _of_kind(owner: str) -> Handler:
    def get(call: Call) -> Reply:
        actions = [
            each
            for each in call.world.actions.values()
            if any(kind == OWNERS[owner] for kind, _ in each.resources)
        ]
        return _listed(call, actions)

    return get


def _of_one(owner: str) -> Handler:
    def get(call: Call) -> Reply:
        given = call.path.get("id") or call.path["id_or_name"]
        things = getattr(call.world, owner)
        ids = [each.id for each in things.values() if given in (str(each.id), each.name)]
        if not ids:
            raise not_found(OWNERS[owner], given)
        resource = (OWNERS[owner], ids[0])
        return _listed(call, (each for each in call.world.actions.values() if resource in each.resources))

    return get


def _listed(call: Call, actions: Iterable[ActionState]) -> Reply:
    return listed(
        call,
        "actions",
        actions,
        lambda action: action_view(call.world, action),
        status=lambda action: action.status,
        id=lambda action: action.id,
    )


ROUTES: dict[str, Handler] = {"GET /actions": get_many, "GET /actions/{id}": get_one}
for _owner in OWNERS:
    _key = "{id_or_name}" if _owner == "zones" else "{id}"
    ROUTES |= {
        f"GET /{_owner}/actions": _of_kind(_owner),
        f"GET /{_owner}/actions/{{id}}": get_one,
        f"GET /{_owner}/{_key}/actions": _of_one(_owner),
        f"GET /{_owner}/{_key}/actions/{{action_id}}": get_one,
    }

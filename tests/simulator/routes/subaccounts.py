"""Subaccounts of storage boxes: a user, a host and a directory of their own."""

from tests.simulator.errors import ApiError
from tests.simulator.labels import check_labels
from tests.simulator.routes.actions import action_view, started
from tests.simulator.routes.call import Call, Handler, Reply, allowed, find_by_id, listed, text
from tests.simulator.routes.storage_boxes import active, box_of, check_password
from tests.simulator.state import Json, StorageBoxState, SubaccountState
from tests.simulator.world import World

SETTINGS = ("reachable_externally", "readonly", "samba_enabled", "ssh_enabled", "webdav_enabled")
MOST = 100


def username(box: StorageBoxState, account: SubaccountState) -> str:
    return f"{box.username}-sub{account.number}"


def view(world: World, box: StorageBoxState, account: SubaccountState) -> Json:
    user = username(box, account)
    return {
        "id": account.id,
        "storage_box": box.id,
        "name": account.name,
        "username": user,
        "server": world.box_host(user),
        "home_directory": account.home_directory,
        "access_settings": account.access_settings,
        "description": account.description,
        "labels": account.labels,
        "created": text(account.created),
    }


def create(call: Call) -> Reply:
    """Answers with the ids alone."""
    world, box, body = call.world, active(call), call.body
    check_labels(body.get("labels"))
    check_password(body["password"])
    if len(box.subaccounts) >= MOST:
        raise ApiError(403, "resource_limit_exceeded", "subaccount limit exceeded")
    number = max((each.number for each in box.subaccounts.values()), default=0) + 1
    account = SubaccountState(
        id=world.new_id(),
        name=body.get("name", f"sub{number}"),
        created=world.now(),
        labels=dict(body.get("labels", {})),
        box=box.id,
        number=number,
        password=body["password"],
        home_directory=body["home_directory"],
        description=body.get("description", ""),
        access_settings=allowed(body.get("access_settings", {}), *SETTINGS),
    )
    box.subaccounts[account.id] = account
    resources = ("storage_box", box.id), ("storage_box_subaccount", account.id)
    action = world.act("create_subaccount", world.latency.start, *resources)
    partial = {"id": account.id, "storage_box": box.id}
    return 201, {"subaccount": partial, "action": action_view(world, action)}


def get_list(call: Call) -> Reply:
    box = box_of(call)
    found = box.subaccounts.values()
    _, shown = listed(
        call,
        "subaccounts",
        found,
        lambda account: view(call.world, box, account),
        username=lambda account: username(box, account),
    )
    return 200, {"subaccounts": (shown or {})["subaccounts"]}


def get(call: Call) -> Reply:
    return 200, {"subaccount": view(call.world, box_of(call), _account(call))}


def put(call: Call) -> Reply:
    account = _account(call)
    check_labels(call.body.get("labels"))
    account.name = call.body.get("name", account.name)
    account.labels = dict(call.body.get("labels", account.labels))
    account.description = call.body.get("description", account.description)
    return 200, {"subaccount": view(call.world, box_of(call), account)}


def delete(call: Call) -> Reply:
    box, account = active(call), _account(call)
    del box.subaccounts[account.id]
    return _done(call, account, "delete_subaccount")


def change_home_directory(call: Call) -> Reply:
    active(call)
    account = _account(call)
    account.home_directory = call.body["home_directory"]
    return _done(call, account, "change_home_directory")


def reset_password(call: Call) -> Reply:
    active(call)
    account = _account(call)
    check_password(call.body["password"])
    account.password = call.body["password"]
    return _done(call, account, "reset_subaccount_password")


def update_access_settings(call: Call) -> Reply:
    """Settings that are not named stay as they are."""
    active(call)
    account = _account(call)
    account.access_settings |= {name: value for name, value in call.body.items() if name in SETTINGS}
    return _done(call, account, "update_access_settings")


def _done(call: Call, account: SubaccountState, command: str) -> Reply:
    resources = ("storage_box", account.box), ("storage_box_subaccount", account.id)
    return started(call, call.world.act(command, 0, *resources))


def _account(call: Call) -> SubaccountState:
    return find_by_id(box_of(call).subaccounts, call.path["subaccount_id"], "subaccount")


_ALL = "/storage_boxes/{id}/subaccounts"
_ONE = f"{_ALL}/{{subaccount_id}}"

ROUTES: dict[str, Handler] = {
    f"GET {_ALL}": get_list,
    f"POST {_ALL}": create,
    f"GET {_ONE}": get,
    f"PUT {_ONE}": put,
    f"DELETE {_ONE}": delete,
    f"POST {_ONE}/actions/change_home_directory": change_home_directory,
    f"POST {_ONE}/actions/reset_subaccount_password": reset_password,
    f"POST {_ONE}/actions/update_access_settings": update_access_settings,
}

"""SSH keys, unique by name and by the MD5 fingerprint of the key."""

import base64
import binascii
import hashlib

from tests.simulator.errors import invalid, taken
from tests.simulator.labels import check_labels
from tests.simulator.routes.call import (
    Call,
    Handler,
    Reply,
    check_free,
    find_by_id,
    listed,
    text,
    update,
)
from tests.simulator.state import Json, SSHKeyState


def fingerprint(public_key: str) -> str:
    """Return the MD5 fingerprint of an OpenSSH public key: 16 pairs of hex digits, joined by colons.

    Raises:
        ApiError: 422, it is no such key.
    """
    try:
        kind, blob = public_key.split()[:2]
        raw = base64.b64decode(blob, validate=True)
    except (ValueError, binascii.Error):
        raise invalid("SSH key is not valid", "public_key") from None
    if kind.encode() not in raw[:64]:
        raise invalid("SSH key is not valid", "public_key")
    return hashlib.md5(raw).digest().hex(":")


def view(key: SSHKeyState) -> Json:
    return {
        "id": key.id,
        "name": key.name,
        "fingerprint": key.fingerprint,
        "public_key": key.public_key,
        "labels": key.labels,
        "created": text(key.created),
    }


def create(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_free(world.ssh_keys, body["name"], "SSH key")
    mark = fingerprint(body["public_key"])
    if any(each.fingerprint == mark for each in world.ssh_keys.values()):
        raise taken("SSH key with the same fingerprint already exists", "public_key")
    key = SSHKeyState(
        id=world.new_id(),
        name=body["name"],
        created=world.now(),
        labels=dict(body.get("labels", {})),
        public_key=body["public_key"],
        fingerprint=mark,
    )
    world.ssh_keys[key.id] = key
    return 201, {"ssh_key": view(key)}


def get_list(call: Call) -> Reply:
    keys = call.world.ssh_keys.values()
    return listed(call, "ssh_keys", keys, view, fingerprint=lambda key: key.fingerprint)


def get(call: Call) -> Reply:
    return 200, {"ssh_key": view(_key(call))}


def put(call: Call) -> Reply:
    key = _key(call)
    update(call, call.world.ssh_keys, key, "SSH key")
    return 200, {"ssh_key": view(key)}


def delete(call: Call) -> Reply:
    del call.world.ssh_keys[_key(call).id]
    return 204, None


def _key(call: Call) -> SSHKeyState:
    return find_by_id(call.world.ssh_keys, call.path["id"], "SSH key")


ROUTES: dict[str, Handler] = {
    "GET /ssh_keys": get_list,
    "POST /ssh_keys": create,
    "GET /ssh_keys/{id}": get,
    "PUT /ssh_keys/{id}": put,
    "DELETE /ssh_keys/{id}": delete,
}

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
    text,
)
from tests.simulator.routes.kind import Kind
from tests.simulator.state import Json, SSHKeyState
from tests.simulator.world import World


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


def view(_: World, key: SSHKeyState) -> Json:
    return {
        "id": key.id,
        "name": key.name,
        "fingerprint": key.fingerprint,
        "public_key": key.public_key,
        "labels": key.labels,
        "created": text(key.created),
    }


KEYS = Kind(
    "ssh_key",
    "SSH key",
    lambda world: world.ssh_keys,
    view,
    filters={"fingerprint": lambda key: key.fingerprint},
)


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
    return KEYS.reply(call, key, 201)


def delete(call: Call) -> Reply:
    del call.world.ssh_keys[KEYS.one(call).id]
    return 204, None


ROUTES: dict[str, Handler] = {
    **KEYS.routes,
    "POST /ssh_keys": create,
    "DELETE /ssh_keys/{id}": delete,
}

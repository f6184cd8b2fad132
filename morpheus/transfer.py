"""The transfer text: one line that takes a registry's address, password and key to another device.

It is no protection, only a form: whoever reads it may use the registry. A checksum in it tells a mistyped or
cut one from a whole one, before anything is tried with it.
"""

import base64
import binascii
import hashlib
import json
import re

from pydantic import SecretStr

from morpheus.errors import InvalidInputError
from morpheus.kept import Access

PREFIX = "morpheus1:"
CHECKSUM = 8  # bytes
_CODE = re.compile(r"[A-Za-z0-9_-]+")
FIELDS = ("registry_id", "type", "url", "username")


def text(access: Access) -> str:
    """What opens the registry, in one line."""
    secrets = {"password": access.password, "key": access.key}
    fields = {name: getattr(access, name) for name in FIELDS} | {
        name: secret.get_secret_value() for name, secret in secrets.items() if secret
    }
    body = json.dumps(fields, separators=(",", ":")).encode()
    return PREFIX + base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")


def understood(given: str) -> Access:
    """The access that *given* says; white space in it does not count, nor do other words around it.

    Raises:
        InvalidInputError: it says none or several, or not as they were printed.
    """
    found: list[Access] = []
    begun = [match.end() for match in re.finditer(PREFIX, given)]
    for access in (_first_whole(given[start:]) for start in begun):
        if access and access not in found:
            found.append(access)
    if not begun and "".join(given.split()).startswith(PREFIX):  # broken within its first word
        found = list(filter(None, [_first_whole("".join(given.split()).removeprefix(PREFIX))]))
        begun = [0]
    if not begun:
        raise InvalidInputError(
            f"That is no transfer text (one begins with {PREFIX}). Copy the line that morpheus init --export "
            "prints on a device that has the registry."
        )
    if not found:
        raise InvalidInputError(
            "The transfer text is not whole: a character is wrong or missing. Copy it again."
        )
    if len(found) > 1:
        raise InvalidInputError("These are several different transfer texts: give one alone.")
    return found[0]


def _first_whole(text: str) -> Access | None:
    """The access whose code *text* begins with, however lines broke it and whatever follows."""
    code = ""
    for word in text.split():
        mine = _CODE.match(word)
        code += mine[0] if mine else ""
        if access := _decoded(code):
            return access
        if mine is None or mine[0] != word:
            return None
    return None


def _decoded(code: str) -> Access | None:
    """The access in *code*; None where that is not as it was printed."""
    try:
        data = base64.b64decode(code.encode() + b"=" * (-len(code) % 4), altchars=b"-_", validate=True)
        checksum, body = data[:CHECKSUM], data[CHECKSUM:]
        if checksum != _checksum(body):
            return None
        fields = json.loads(body)
        secrets = [SecretStr(fields[name]) if name in fields else None for name in ("password", "key")]
        return Access(*(fields[name] for name in FIELDS), *secrets)
    except (ValueError, KeyError, TypeError, binascii.Error):  # their texts quote what is secret
        return None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:CHECKSUM]

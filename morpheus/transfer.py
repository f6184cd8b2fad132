"""The transfer text: one line that takes a registry's address, password and key to another device.

It is no protection, only a form: whoever reads it may use the registry. A checksum in it tells a mistyped or
cut one from a whole one, before anything is tried with it.
"""

import base64
import binascii
import hashlib
import json

from pydantic import SecretStr

from morpheus.errors import InvalidInputError
from morpheus.kept import Access

PREFIX = "morpheus1:"
CHECKSUM = 8  # bytes
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
    """The access that *given* says; white space in it does not count.

    Raises:
        InvalidInputError: it is none, or not as it was printed.
    """
    line = "".join(given.split())
    if not line.startswith(PREFIX):
        raise InvalidInputError(
            f"That is no transfer text, which begins with {PREFIX}: copy the line that "
            "morpheus init --export prints on a device that has the registry."
        )
    try:
        coded = line.removeprefix(PREFIX).encode()
        data = base64.b64decode(coded + b"=" * (-len(coded) % 4), altchars=b"-_", validate=True)
        checksum, body = data[:CHECKSUM], data[CHECKSUM:]
        if checksum != _checksum(body):
            raise ValueError
        fields = json.loads(body)
        secrets = [SecretStr(fields[name]) if name in fields else None for name in ("password", "key")]
        return Access(*(fields[name] for name in FIELDS), *secrets)
    except (ValueError, KeyError, TypeError, binascii.Error):  # their texts quote what is secret
        raise InvalidInputError(
            "The transfer text is not whole: a character is wrong or missing. Copy it again."
        ) from None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:CHECKSUM]

"""How a machine is entered: where it stands, and by which host keys it is known; and the words of keys."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from morpheus.errors import InvalidInputError

ALGORITHM = "ssh-ed25519"


@dataclass(frozen=True, slots=True)
class Way:
    """The way to one node's machine.

    ``address`` is IPv6 or IPv4; ``host_keys`` are one or two lines "ssh-ed25519 AAAA...", and a machine that
    shows any other key is not entered.
    """

    address: str
    host_keys: tuple[str, ...]
    port: int = 22
    user: str = "root"

    def __post_init__(self) -> None:
        """Bring the keys into their plain form.

        Raises:
            InvalidInputError: there is none, or one is no ed25519 key.
        """
        if not self.host_keys:
            raise InvalidInputError(f"No host key of {self.address} is recorded, so it cannot be entered.")
        object.__setattr__(self, "host_keys", tuple(plain(each) for each in self.host_keys))

    @property
    def place(self) -> str:
        """The address and the port, for sentences."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def plain(key: str) -> str:
    """A public key without its comment.

    Raises:
        InvalidInputError: it is no ed25519 key in OpenSSH's form.
    """
    words = key.split()
    with_body = 2
    if len(words) < with_body or words[0] != ALGORITHM or not _body(words[1]).startswith(b"\0\0\0\x0bssh-ed"):
        raise InvalidInputError(f"{key[:60]!r} is no host key; one looks like '{ALGORITHM} AAAAC3Nza...'.")
    return f"{ALGORITHM} {words[1]}"


def fingerprint(key: str) -> str:
    """The fingerprint of a public key as ssh-keygen shows it: SHA256:..."""
    digest = hashlib.sha256(_body(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def fingerprints(keys: Iterable[str]) -> str:
    return " or ".join(fingerprint(each) for each in keys)


def _body(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""

"""Ed25519 keys as OpenSSH writes them, the same bytes each time.

The form is that of PROTOCOL.key in OpenSSH's sources. ``cryptography`` writes it too, but with random check
numbers, so that one key had another text at each rendering; here they follow from the key.
"""

import base64
import hashlib
import re
import struct
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

KIND = b"ssh-ed25519"
SEED_BYTES = 32
_BLOCK = 8  # bytes; the private part is padded to a multiple, also when nothing encrypts it
_LINE = 70  # characters
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"


@dataclass(frozen=True, slots=True, repr=False)
class SshKey:
    """A key: ``private`` is the text of its file, ``public`` one line ("ssh-ed25519 AAAA...").

    Never shown by repr.
    """

    private: str
    public: str


def from_seed(seed: bytes) -> SshKey:
    """The key that *seed*, 32 bytes, stands for; equal seeds make equal texts."""
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    public = _string(KIND) + _string(raw)
    check = hashlib.sha256(b"morpheus check" + raw).digest()[:4]
    private = 2 * check + public + _string(seed + raw) + _string(b"")
    private += bytes(range(1, 1 + -len(private) % _BLOCK))
    body = b"openssh-key-v1\0" + 2 * _string(b"none") + _string(b"") + struct.pack(">I", 1)
    code = base64.b64encode(body + _string(public) + _string(private)).decode()
    text = "\n".join([_BEGIN, *re.findall(f".{{1,{_LINE}}}", code), _END, ""])
    return SshKey(text, f"{KIND.decode()} {base64.b64encode(public).decode()}")


def public_line(private: str) -> str:
    """The public half of the key whose file holds *private*.

    Raises:
        ValueError: it holds no unencrypted Ed25519 key; quotes nothing of it.
    """
    try:
        key = load_ssh_private_key(private.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("it is no private key of OpenSSH") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is no Ed25519 key")  # noqa: TRY004  # what is wrong is the text
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data

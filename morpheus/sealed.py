"""Sealing: a text that only the registry's key opens, and only for what it was sealed for.

The envelope is JSON and tells which planting of the forest it belongs to, so that who has no key can still
remove what is left. All else about it is bound into the seal (AES-256-GCM): the registry, the forest, and
that planting. One sealed text has exactly one form: what reads back differently is refused.
"""

import base64
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from morpheus.errors import RefusedError

VERSION = 1
KEY_BYTES = 32
NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Bond:
    """What a text is sealed for."""

    registry_id: str
    forest: str
    planting: str

    @property
    def encoded(self) -> bytes:
        return json.dumps(["morpheus secrets 1", self.registry_id, self.forest, self.planting]).encode()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed text and the planting that it says it belongs to."""

    planting: str
    nonce: bytes
    ciphertext: bytes

    def render(self) -> str:
        raw = {
            "version": VERSION,
            "planting": self.planting,
            "nonce": base64.b64encode(self.nonce).decode(),
            "ciphertext": base64.b64encode(self.ciphertext).decode(),
        }
        return json.dumps(raw) + "\n"

    @classmethod
    def parse(cls, text: str) -> "Envelope | None":
        """The envelope in *text*; None where it is none, or not as it was written, to the byte.

        Raises:
            RefusedError: it is of a newer format.
        """
        try:
            raw = json.loads(text)
            version, planting = raw["version"], raw["planting"]
            if type(version) is int and version > VERSION:
                raise RefusedError("a newer Morpheus wrote them: update this one")
            found = cls(planting, base64.b64decode(raw["nonce"]), base64.b64decode(raw["ciphertext"]))
            return found if isinstance(planting, str) and found.render() == text else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def seal(key: bytes, text: str, bond: Bond) -> str:
    """*text*, sealed for *bond* alone; another envelope each time."""
    nonce = os.urandom(NONCE_BYTES)
    return Envelope(bond.planting, nonce, _cipher(key).encrypt(nonce, text.encode(), bond.encoded)).render()


def unseal(key: bytes, document: str, bond: Bond) -> str:
    """The text that was sealed for *bond*.

    Raises:
        RefusedError: it was not, or with another key, or it is not as it was written.
    """
    envelope = Envelope.parse(document)
    if envelope is None:
        raise RefusedError("they are no sealed document, or not as they were written")
    if envelope.planting != bond.planting:
        raise RefusedError("they are those of another planting of that name")
    try:
        return _cipher(key).decrypt(envelope.nonce, envelope.ciphertext, bond.encoded).decode()
    except (InvalidTag, ValueError):
        raise RefusedError(
            "the key does not fit: they were changed, or belong to another forest, registry or key"
        ) from None


def _cipher(key: bytes) -> AESGCM:
    """The key is also used for its own proof (morpheus/keyring.py), so what seals is derived from it."""
    return AESGCM(HKDF(SHA256(), KEY_BYTES, None, b"morpheus sealing 1").derive(key))

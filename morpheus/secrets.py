"""The secrets of one forest: what opens its machines and its cluster, as one value and as JSON.

Where they are kept, and how they are sealed there, is told by morpheus/vault.py and morpheus/sealed.py.
"""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from morpheus import openssh
from morpheus.errors import RefusedError
from morpheus.nats import access as nkeys
from morpheus.nats.access import Access
from morpheus.openssh import SEED_BYTES, SshKey

VERSION = 1
PASSWORD_BYTES = 24


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """A certificate and its key, both as PEM; never shown by repr."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class ForestSecrets:
    """Everything about one forest that nobody else may know; never shown by repr.

    ``access`` are the nkeys of its accounts and the password of its routes, ``client_password`` that of
    clients from outside, ``authority`` signs the certificates of its nodes, ``ssh_key`` (the text of an
    OpenSSH file) enters its machines, ``subaccount_password`` is that of its part of the Storage Box, once
    there is one. ``extra`` is the object as it was read, so that what a newer Morpheus wrote survives.
    """

    access: Access
    client_password: str
    authority: KeyPair
    ssh_key: str
    birth_seed: bytes
    subaccount_password: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def ssh_public(self) -> str:
        """The line by which machines know the forest's own SSH key."""
        return openssh.public_line(self.ssh_key)

    def birth_key(self, node: str) -> SshKey:
        """The host key with which the machine of *node* is born, the same whenever it is asked for.

        So a create call that is repeated sends the same user_data, and nothing about it is remembered.
        """
        info = b"morpheus birth key 1 " + node.encode()
        return openssh.from_seed(HKDF(SHA256(), SEED_BYTES, None, info).derive(self.birth_seed))


def generate(authority: KeyPair) -> ForestSecrets:
    """New secrets, with the *authority* that was made for them."""
    return ForestSecrets(
        nkeys.generate(),
        secrets.token_urlsafe(PASSWORD_BYTES),
        authority,
        openssh.from_seed(os.urandom(SEED_BYTES)).private,
        os.urandom(SEED_BYTES),
    )


def render(known: ForestSecrets) -> str:
    """*known* as JSON; ``parse(render(s)) == s``."""
    access, authority = known.access, known.authority
    raw: dict[str, Any] = {
        **known.extra,
        "version": VERSION,
        "access": {
            **known.extra.get("access", {}),
            "app_seed": access.app_seed,
            "system_seed": access.system_seed,
            "route_password": access.route_password,
        },
        "client_password": known.client_password,
        "authority": {
            **known.extra.get("authority", {}),
            "certificate": authority.certificate,
            "key": authority.key,
        },
        "ssh_key": known.ssh_key,
        "birth_seed": base64.b64encode(known.birth_seed).decode(),
        "subaccount_password": known.subaccount_password,
    }
    return json.dumps(raw)


def parse(text: str) -> ForestSecrets:
    """The secrets in *text*.

    Raises:
        RefusedError: they are of a newer format, or something in them lacks; quotes nothing of them.
    """
    try:
        raw = json.loads(text)
        version = raw["version"]
        if type(version) is int and version > VERSION:
            raise RefusedError("a newer Morpheus wrote them: update this one")
        if version is not True and version == VERSION:
            return _understood(raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # their texts quote secrets
        pass
    raise RefusedError("what is in them cannot be understood")


def _understood(raw: dict[str, Any]) -> ForestSecrets:
    access, authority, password = raw["access"], raw["authority"], raw.get("subaccount_password")
    ssh_key = _word(raw["ssh_key"])
    openssh.public_line(ssh_key)
    seed = base64.b64decode(_word(raw["birth_seed"]), validate=True)
    if len(seed) != SEED_BYTES:
        raise ValueError
    return ForestSecrets(
        Access(*(_word(access[each]) for each in ("app_seed", "system_seed", "route_password"))),
        _word(raw["client_password"]),
        KeyPair(_word(authority["certificate"]), _word(authority["key"])),
        ssh_key,
        seed,
        None if password is None else _word(password),
        raw,
    )


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value

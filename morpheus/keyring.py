"""The key of a registry, which seals the secrets of its forests: made once, and proven before it is used.

``secrets/_key`` beside the registry holds a value that proves the key and does not tell it. Who makes a key
keeps it on this device first (morpheus/kept.py), then writes that value, by compare-and-set: of two devices
that begin at once one has the key, and the other is told to bring it. Two programs of one device share one.
"""

import base64
import binascii
import contextlib
import functools
import hashlib
import hmac
import json
import logging
import os
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr

from morpheus import folders, kept, site
from morpheus.cloud import Cloud
from morpheus.errors import (
    InvalidInputError,
    MorpheusError,
    RefusedError,
    RegistryConflictError,
    TransientError,
)
from morpheus.files import make_folder
from morpheus.forest import Forest
from morpheus.kept import Access
from morpheus.registry import SECRETS, Registry, Store
from morpheus.registry.care import Place
from morpheus.registry.document import Document
from morpheus.sealed import KEY_BYTES
from morpheus.secrets import ForestSecrets, KeyPair
from morpheus.settings import RegistrySettings, Settings
from morpheus.vault import Authority, Vault
from morpheus.wait import locked

log = logging.getLogger("morpheus.keyring")

VARIABLE = "MORPHEUS_SECRET_KEY"
KEY_CHECK = f"{SECRETS}/_key"  # no forest has such a name
CHECK_TRIES = 5
LOCK_TIMEOUT = 60.0  # seconds
SHARED = {"storagebox", "s3"}  # types of stores that other devices reach


class Key(StrEnum):
    """What this device knows of the registry's key."""

    MADE = "made"
    PROVEN = "proven"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Keeper:
    """Whose key it is, and where it is kept: a registry, as this device gets to it.

    Args:
        place: where the registry stands, and its documents.
        type: of its store: storagebox, s3, local, none.
        username: of the store.
        folder: this user's data.
        given: the key that was told, which wins over the one that is kept.
    """

    place: Place
    type: str
    username: str | None
    folder: Path
    given: SecretStr | None = None

    @property
    def checks(self) -> Store:
        return self.place(KEY_CHECK)

    @property
    def advice(self) -> str:
        """How a key comes here that was made already."""
        if self.type in SHARED:
            way = "with morpheus init --export on a device that has it, and morpheus init --import here"
        else:
            way = f"by putting a copy of {kept.path(self.folder)} back"
        return f"bring it {way}, or set {VARIABLE}"

    @property
    def url(self) -> str:
        return self.place(None).url

    def known(self, registry_id: str) -> SecretStr | None:
        """The key as it was told, or as it is kept now."""
        return self.given or kept.key(self.folder, registry_id)

    def access(self, registry_id: str) -> Access:
        """What is kept for this user of the registry; without a key or a password where nothing is."""
        mine = (registry_id, self.url, self.username)
        entries = kept.known(self.folder)
        fitting = (each for each in entries if (each.registry_id, each.url, each.username) == mine)
        return next(fitting, Access(registry_id, self.type, self.url, self.username))


def told_key(environment: Mapping[str, str] = os.environ) -> SecretStr | None:
    """The key in MORPHEUS_SECRET_KEY.

    Raises:
        InvalidInputError: it is none.
    """
    told = environment.get(VARIABLE)
    return checked(SecretStr(told), VARIABLE) if told else None


def keeper_of(registry: RegistrySettings, given: SecretStr | None = None) -> Keeper:
    """Who keeps the key of the registry of the settings, for this user.

    Raises:
        InvalidInputError: no registry is configured, or MORPHEUS_SECRET_KEY is no key.
    """
    place = functools.partial(site.open_store, registry)
    place(None)  # else it says what is wrong with the settings
    kind = str(registry.type)
    return Keeper(place, kind, registry.username, folders.data_dir(), given or told_key())


def secrets_of(settings: Settings, forest: Forest) -> ForestSecrets:
    """The secrets of the recorded *forest*, for who only reads: nothing is made or written.

    Raises:
        RefusedError: they cannot be opened here; says what to do.
    """
    keeper = keeper_of(settings.registry)
    registry_id = Registry(keeper.place(None)).read().registry_id
    if not is_made(keeper, registry_id):
        raise RefusedError(f"The registry {keeper.url} never had a key, so no secrets are kept beside it.")
    return Vault(keeper.place, registry_id or "", keeper.known(registry_id or "")).open(forest)


def entered(settings: Settings, cloud: Cloud, forest: Forest) -> Cloud:
    """*cloud*, as the machines of the recorded *forest* are entered from here.

    Raises:
        RefusedError: its secrets cannot be opened here; says what to do.
    """
    if not cloud.needs_key:
        return cloud
    return cloud.entered_with(SecretStr(secrets_of(settings, forest).ssh_key))


def entered_or_why(settings: Settings, cloud: Cloud, forest: Forest) -> tuple[Cloud, str]:
    """As :func:`entered`, or the *cloud* as it is and why its machines are not entered from here."""
    try:
        return entered(settings, cloud, forest), ""
    except MorpheusError as error:
        return cloud, str(error)


def new_authority(forest: str) -> KeyPair:
    """A certificate authority for *forest*, made now."""
    from morpheus.machine import pki  # noqa: PLC0415  # only who makes one pays for it

    made = pki.found(forest, datetime.now(UTC))
    return KeyPair(made.certificate, made.key)


def open_vault(keeper: Keeper, authority: Authority = new_authority) -> Vault:
    """The vault of a registry, with its key, which is made now where the registry never had one.

    Nothing is planted before this has returned: what it raises is said before anything is made.

    Raises:
        RefusedError: the key is not here, or it is another registry's.
    """
    registry_id = _founded(Registry(keeper.place(None))).registry_id or ""
    return Vault(keeper.place, registry_id, the_key(keeper, registry_id), authority)


def the_key(keeper: Keeper, registry_id: str) -> SecretStr:
    """The registry's key, proven, or made where none ever was.

    Raises:
        RefusedError: it is not here, or what is here is another one.
    """
    key = keeper.known(registry_id)
    if key is None and keeper.checks.read().text is None:
        key, _ = make_key(keeper, registry_id)
        log.info("the key for secrets of %s is kept in %s", keeper.url, kept.path(keeper.folder))
        return key
    key = key or keeper.known(registry_id)  # another program of this device may just have kept it
    if key is None:
        raise _missing(keeper)
    settle_key(keeper, key)
    return key


def make_key(keeper: Keeper, registry_id: str) -> tuple[SecretStr, Key]:
    """A new key, unless another program of this device made one meanwhile; it is kept and proven.

    Raises:
        RefusedError: another device made one meanwhile.
    """
    with _alone(keeper.folder):
        if known := keeper.known(registry_id):
            return known, settle_key(keeper, known)
        key = new_key()
        access = replace(keeper.access(registry_id), key=key)
        kept.keep(keeper.folder, access)
        try:
            made = settle_key(keeper, key)
        except RefusedError:  # another device came first, and nothing was sealed with ours
            kept.forget_key(keeper.folder, access)
            raise _missing(keeper) from None
    return key, made


def is_made(keeper: Keeper, registry_id: str | None) -> bool:
    """Whether the registry has a key, which is here and proven then. Nothing is written.

    Raises:
        RefusedError: it is not here, or what is here is another one.
    """
    there = keeper.checks.read().text
    if there is None:
        return False
    key = keeper.known(registry_id or "")
    if key is None:
        raise _missing(keeper)
    if not _proves(there, key):
        raise _another(keeper)
    return True


def settle_key(keeper: Keeper, key: SecretStr) -> Key:
    """Prove *key* by the value beside the registry, which is made where there is none.

    Raises:
        RefusedError: it is not the registry's.
    """
    checks, trouble = keeper.checks, None
    for _ in range(CHECK_TRIES):
        try:
            snapshot = checks.read()
            if snapshot.text is None:
                checks.write(check_value(key), snapshot.version, backup=False)
                return Key.MADE
        except (TransientError, RegistryConflictError) as error:
            trouble = error
            continue
        if _proves(snapshot.text, key):
            return Key.PROVEN
        raise _another(keeper)
    assert trouble
    raise trouble


def _proves(there: str, key: SecretStr) -> bool:
    return hmac.compare_digest(there.strip().encode(), check_value(key).strip().encode())


def _missing(keeper: Keeper) -> RefusedError:
    return RefusedError(
        f"The key for secrets of the registry {keeper.url} is not on this device: {keeper.advice}."
    )


def _another(keeper: Keeper) -> RefusedError:
    return RefusedError(
        f"The key here is not the one that the registry {keeper.url} was founded with: {keeper.advice}."
    )


def check_value(key: SecretStr) -> str:
    """What proves *key*, and tells nothing about it."""
    raw = base64.b64decode(key.get_secret_value())
    proof = hmac.new(raw, b"morpheus key check 1", hashlib.sha256)
    return json.dumps({"version": 1, "check": proof.hexdigest()}) + "\n"


def new_key() -> SecretStr:
    return SecretStr(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


def checked(key: SecretStr, where: str) -> SecretStr:
    """*key*, which *where* holds, if it can be one.

    Raises:
        InvalidInputError: it cannot; quotes nothing of it.
    """
    text = key.get_secret_value().strip()
    with contextlib.suppress(binascii.Error, ValueError):
        if len(base64.b64decode(text, validate=True)) == KEY_BYTES:
            return SecretStr(text)
    raise InvalidInputError(f"{where} is no key: it must be {KEY_BYTES} bytes in base64.")


def _founded(registry: Registry) -> Document:
    """The registry's document, written where none is: its id tells whose key is kept."""
    new = uuid.uuid4().hex
    return registry.update(
        lambda document, _: document if document.registry_id else replace(document, registry_id=new)
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other programs of this device from making a key."""
    make_folder(folder)
    with locked(folder / ".key.lock", timeout=LOCK_TIMEOUT):
        yield

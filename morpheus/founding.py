"""How a device comes to the shared registry: in a Storage Box, at an address, or brought as text.

Everything here is *ensure*: after a kill at any point the same command goes on where it stopped. What opens
the registry is kept on this device before the thing that it opens is made. Its key is told of in
morpheus/keyring.py.
"""

import contextlib
import functools
import logging
import secrets
import string
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from morpheus import kept, site
from morpheus.cloud.hetzner.api import TakenError
from morpheus.cloud.hetzner.boxes import NAME as BOX_NAME
from morpheus.cloud.hetzner.boxes import Box, Boxes, Offer
from morpheus.errors import (
    CloudError,
    InvalidInputError,
    MorpheusError,
    NotReadyError,
    RefusedError,
    TransientError,
)
from morpheus.interrupted import GO_ON, leaves
from morpheus.kept import Access
from morpheus.keyring import Keeper, Key, make_key, new_key, settle_key
from morpheus.registry import Registry, Store
from morpheus.registry.document import Document
from morpheus.settings import RegistrySettings
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.founding")

ANSWER_TIMEOUT, ANSWER_INTERVAL = 300.0, 2.0  # seconds until a new box must let us in, and between two tries
PASSWORD_LENGTH = 40
SPECIAL = "-.,:;_+=?"  # of those Hetzner allows, none that YAML, shells or URLs take for theirs at once


@dataclass(frozen=True, slots=True)
class Founded:
    """A registry that this device can use from now on."""

    access: Access
    key: Key


# Deciding


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No box holds a registry. ``access`` was kept for one that was not made yet."""

    access: Access | None


@dataclass(frozen=True, slots=True)
class Ours:
    """The box whose password is kept here."""

    box: Box
    access: Access


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A box that another device made; ``access`` is that of a subaccount begun here."""

    box: Box
    access: Access | None


Where = Nowhere | Ours | Elsewhere


def decide(boxes: Sequence[Box], known: Sequence[Access], chosen: str | None = None) -> Where:
    """Where the registry is, or is to be.

    Args:
        boxes: those of the project that say they hold a registry.
        known: what is kept on this device.
        chosen: name of the box that is meant, where there are several.

    Raises:
        InvalidInputError: nobody can tell which box is meant; lists them.
    """
    mine = [each for each in known if each.device is None and each.password]
    accounts = {each.registry_id: each for each in reversed(known) if each.device is not None}
    meant = [each for each in boxes if chosen in (None, each.name, each.username)]
    if chosen and not meant:
        raise InvalidInputError(f"No Storage Box {chosen} holds a registry. {_listed(boxes)}")
    if not meant:
        used = {each.registry_id for each in mine if not each.is_pending}
        pending = (each for each in mine if each.is_pending and each.registry_id not in used)
        return Nowhere(next(pending, None))
    here = [each for each in meant if _access_to(each, mine)]
    if len(meant) > 1 and len(here) != 1:
        raise InvalidInputError(
            f"Several Storage Boxes hold registries; choose one with --box. {_listed(boxes)}"
        )
    box = here[0] if here else meant[0]
    if access := _access_to(box, mine):
        return Ours(box, access)
    return Elsewhere(box, accounts.get(box.registry_id))


def _access_to(box: Box, mine: Sequence[Access]) -> Access | None:
    """What opens *box* itself; the password of a subaccount, which a transfer text may bring, does not."""
    fitting = (each for each in mine if each.registry_id == box.registry_id)
    users = {None, box.username}  # none has a name while the box is being made
    return next((each for each in fitting if each.username in users or not box.username), None)


def _listed(boxes: Sequence[Box]) -> str:
    return f"There are: {', '.join(map(str, boxes))}." if boxes else "There is none."


# Acting


def found_in_box(boxes: Boxes, where: Nowhere | Ours, folder: Path, offer: Offer | None) -> Founded:
    """The registry in the box of this device, both made where they lack.

    Raises:
        RefusedError: another device made a box meanwhile.
        CloudError: the name of the box is taken, and nobody can tell by whom.
        MorpheusError: it stopped at a step; the same call goes on with it.
    """
    if isinstance(where, Ours):
        access, costs = where.access, "is there and costs"
        with leaves(f"The Storage Box {costs}; {GO_ON}"):
            box = boxes.ready(where.box, remove=access.is_pending)
    else:
        assert offer
        costs = f"is ordered and costs {offer.monthly}"
        access = where.access or Access(uuid.uuid4().hex, password=new_password(), key=new_key())
        kept.keep(folder, access)
        assert access.password
        try:
            box = boxes.ensure(access.registry_id, access.password.get_secret_value(), offer)
        except TakenError:
            others = boxes.find()  # the list may lag behind an order whose answer was lost
            made = next((each for each in others if each.registry_id == access.registry_id), None)
            if made is None:
                raise _taken(others, None if where.access else access, folder) from None
            box = boxes.ready(made, remove=True)
    access = replace(access, url=box.url, username=box.username)
    with leaves(f"The Storage Box {costs}; {GO_ON}"):
        kept.keep(folder, access)
        return settled(access, folder, patiently=True)


def _taken(others: Sequence[Box], made_up: Access | None, folder: Path) -> MorpheusError:
    """Why there is no box; forgets what was *made_up* for it only when another one has its name."""
    if holder := next((each for each in others if each.name == BOX_NAME), None):
        if made_up:
            kept.forget(folder, made_up)  # nothing was made with it
        return RefusedError(
            f"Another device has just made the Storage Box {holder}: run morpheus init again."
        )
    return CloudError(
        "A Storage Box of that name is in the project, but not among those that say they hold a registry "
        "(labels managed-by=morpheus, purpose=registry). It may be the one just ordered here, whose password "
        "is kept: run morpheus init again in a minute. If it says this again, it is somebody's: rename it in "
        "the Cloud Console."
    )


def found_by_account(boxes: Boxes, where: Elsewhere, folder: Path) -> Founded:
    """The registry in another device's box, by a subaccount of this one's own; its key stays missing."""
    access = where.access or Access(where.box.registry_id, password=new_password(), device=uuid.uuid4().hex)
    kept.keep(folder, access)
    assert access.password
    assert access.device
    with leaves(f"A subaccount of the Storage Box may be there, which costs nothing; {GO_ON}"):
        account = boxes.ensure_account(where.box, access.device, access.password.get_secret_value())
        access = replace(access, url=account.url, username=account.username)
        kept.keep(folder, access)
        return settled(access, folder, patiently=True)


def found_at(registry: RegistrySettings, folder: Path) -> Founded:
    """The registry at an address that somebody gave, made there where there is none."""
    access = Access("", str(registry.type), None, registry.username, registry.password)
    store = site.open_store(registry)
    store.read()  # who typed a wrong address hears of it at once
    with leaves(f"A registry may be begun at {store.url}; {GO_ON}"):
        document = _made(store, uuid.uuid4().hex)
        access = replace(access, registry_id=document.registry_id or "", url=store.url)
        access = kept.with_key(access, kept.key(folder, access.registry_id))
        keeper = Keeper(
            functools.partial(site.open_store, registry), access.type, access.username, folder, access.key
        )
        return _begun_at(keeper, access)


def _begun_at(keeper: Keeper, access: Access) -> Founded:
    """The registry of *keeper*, whose document is there, with its key where this device can have it."""
    if access.key is not None:
        key = settle_key(keeper, access.key)
        kept.keep(keeper.folder, access)
        return Founded(access, key)
    kept.keep(keeper.folder, access)  # the key's place
    if keeper.checks.read().text is None:
        with contextlib.suppress(RefusedError):  # another device came first
            made, key = make_key(keeper, access.registry_id)
            return Founded(replace(access, key=made), key)
    return Founded(access, Key.MISSING)


def found_by_text(access: Access, folder: Path) -> Founded:
    """The registry that a transfer text names, when that opens it; kept only then."""
    document = _registry(access).read()
    if document.registry_id != access.registry_id:
        raise RefusedError(
            f"Another registry stands at {access.url} than when the transfer text was printed, or none: "
            "print a new one (morpheus init --export)."
        )
    access = kept.with_key(access, kept.key(folder, access.registry_id))
    founded = Founded(access, _settled_key(access, folder))
    mine = next((each for each in kept.known(folder) if each.registry_id == access.registry_id), None)
    if mine and mine.device and mine.url:  # its own subaccount stays in use
        founded = Founded(replace(mine, key=access.key), founded.key)
    kept.keep(folder, founded.access)
    return founded


def settled(access: Access, folder: Path, *, patiently: bool = False) -> Founded:
    """The registry that *access* opens, made where there is none, with the id of the box that holds it."""
    store = site.open_store(_settings(access))
    if patiently:
        _wait_for(store)
    document = _made(store, access.registry_id)
    if document.registry_id != access.registry_id:  # the box was emptied, and a registry moved into it
        log.warning("%s has another id than its Storage Box says", store.url)
    key = _settled_key(access, folder)
    kept.keep(folder, access)
    return Founded(access, key)


def new_password() -> SecretStr:
    """A password that Hetzner's policy allows: every class of characters, no word of any language."""
    classes = (string.ascii_uppercase, string.ascii_lowercase, string.digits, SPECIAL)
    letters = [secrets.choice(each) for each in classes]
    letters += [secrets.choice("".join(classes)) for _ in range(PASSWORD_LENGTH - len(letters))]
    secrets.SystemRandom().shuffle(letters)
    return SecretStr("".join(letters))


def _settings(access: Access) -> RegistrySettings:
    return RegistrySettings.model_validate(
        {
            "type": access.type,
            "url": access.url,
            "username": access.username,
            "password": access.password,
        }
    )


def _registry(access: Access) -> Registry:
    return Registry(site.open_store(_settings(access)))


def _settled_key(access: Access, folder: Path) -> Key:
    """Prove the key of *access*, if it has one.

    Raises:
        RefusedError: it is not the registry's.
    """
    if access.key is None:
        return Key.MISSING
    place = functools.partial(site.open_store, _settings(access))
    return settle_key(Keeper(place, access.type, access.username, folder), access.key)


def _made(store: Store, registry_id: str) -> Document:
    """The document in *store*, written there where none is."""
    return Registry(store).update(
        lambda document, _: document if document.registry_id else replace(document, registry_id=registry_id)
    )


def _wait_for(store: Store) -> None:
    """Wait until a new box lets us in; its name has to get around first."""
    reason = ""

    def answers() -> bool:
        nonlocal reason
        try:
            store.read()
        except TransientError as error:
            reason = str(error).partition(";")[0].rstrip(".")
            return False
        return True

    try:
        with _without_its_tries():
            wait_until(
                f"the box to answer at {store.url}",
                answers,
                bool,
                lambda _: "not yet",
                timeout=ANSWER_TIMEOUT,
                interval=ANSWER_INTERVAL,
            )
    except NotReadyError:
        raise NotReadyError(
            f"The box is there, but for {ANSWER_TIMEOUT:.0f} s there was no way in: {reason}. Check this "
            f"machine's network; {GO_ON}"
        ) from None


@contextlib.contextmanager
def _without_its_tries() -> Iterator[None]:
    """Keep to itself what the store says of each try, while the whole is told by the wait."""
    stores = logging.getLogger("morpheus.registry")

    def silent(_: logging.LogRecord) -> bool:
        return False

    stores.addFilter(silent)
    try:
        yield
    finally:
        stores.removeFilter(silent)

"""morpheus init: where the registry is to stand, as a person or the options say; kept in the settings.

What is done is in morpheus/founding.py; the settings are written last, so that a registry that is configured
is one that is there.
"""

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from morpheus import folders, kept, site, transfer
from morpheus import settings as config
from morpheus.cli import asking, choosing, configuring, progress
from morpheus.cli.choosing import Kind, Wish
from morpheus.cli.keeping import TARGET_PASSWORD, kind_of
from morpheus.errors import InvalidInputError, MorpheusError, RefusedError
from morpheus.files import make_folder
from morpheus.interrupted import NOTHING, leaves
from morpheus.kept import Access
from morpheus.settings import RegistrySettings, Settings
from morpheus.wait import locked

if TYPE_CHECKING:
    from morpheus.cloud.hetzner.boxes import Boxes
    from morpheus.founding import Elsewhere, Founded

LOCK_TIMEOUT = 5.0  # seconds
SHARED = {"storagebox", "s3"}

KEEP_A_COPY = (
    "No other place has its password and key: keep a copy of the line that morpheus init --export prints, "
    "and give that to morpheus init --import on other devices."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is now. ``key`` is made, proven, missing, or None where there is none to have."""

    registry: RegistrySettings
    url: str
    settings: Path
    key: str | None = None
    changed: bool = True
    notes: tuple[str, ...] = ()


def run(wish: Wish) -> Outcome:
    """Do what *wish* says, or ask.

    Raises:
        InvalidInputError: nobody is here to answer what has to be asked; says which options do.
        RefusedError: another registry is configured.
    """
    settings = config.load()
    if settings.registry.type:
        return _configured(settings, wish)
    kind = wish.kind or choosing.kind_wanted(settings, wish)
    if kind is Kind.NONE:
        return _here()
    if kind is Kind.URL:
        return _at_url(wish)
    return _in_box(settings, replace(wish, kind=kind))


def before_plant(settings: Settings) -> Outcome | None:
    """Ask where the registry is to stand, before the first forest in a cloud; None where that is known.

    Without a terminal nothing is asked: whoever needs the registry then says which commands there are.
    """
    if settings.registry.type or settings.machine.provider == "local" or not asking.somebody_is_here():
        return None
    site.configured_cloud(settings)  # without a token nothing can be planted
    with leaves(NOTHING):
        return run(Wish())


def exported() -> tuple[Access, tuple[str, ...]]:
    """What opens the registry that is configured, and what to say beside it.

    Raises:
        InvalidInputError: none is that other devices could reach, or its password is not known.
    """
    settings = config.load()
    registry = settings.registry
    if registry.type not in SHARED:
        raise InvalidInputError("There is nothing to export: no registry is configured that devices share.")
    if registry.username and not registry.password:
        raise InvalidInputError(f"The password of {registry.username} is not known here. {_no_password()}")
    store = site.open_store(registry)
    mine = (store.url, registry.username)
    known = next((each for each in kept.known(folders.data_dir()) if (each.url, each.username) == mine), None)
    registry_id = site.require_shared(settings).read().registry_id
    if not registry_id:
        raise InvalidInputError(f"No registry stands at {store.url} yet: run morpheus init --url first.")
    key = kept.key(folders.data_dir(), registry_id)
    access = Access(registry_id, registry.type, store.url, registry.username, registry.password, key)
    warnings = ["This line opens the registry to whoever reads it, for as long as the password holds."]
    if key is None:
        warnings.append("It holds no key: this device has none of this registry.")
    if known and known.device:
        warnings.append("It holds the password of this device's own subaccount, which both use then.")
    return access, tuple(warnings)


def imported() -> Outcome:
    """Take over the transfer text that is typed or piped.

    Raises:
        InvalidInputError: it is none.
        RefusedError: another registry is configured, or the text opens none.
    """
    from morpheus import founding  # noqa: PLC0415  # imports hcloud

    settings, folder = config.load(), folders.data_dir()
    access = transfer.understood(asking.secret("Transfer text"))
    if settings.registry.type and not _is_of(settings.registry, access):
        raise _other(settings)
    with _alone(), progress.shown(f"Looking at {access.url} ..."):
        founded = founding.found_by_text(access, folder)
    if settings.registry.type:
        return replace(_outcome(settings.registry, founded.key), changed=False)
    return _settled(founded)


# What is configured already


def _configured(settings: Settings, wish: Wish) -> Outcome:
    """What to say when there is a registry: nothing is changed."""
    registry = settings.registry
    wanted = {Kind.STORAGEBOX: "storagebox", Kind.SUBACCOUNT: "storagebox", Kind.NONE: "none"}
    if wish.kind in wanted and registry.type != wanted[wish.kind]:
        raise _other(settings)
    if wish.url:
        kind = kind_of(wish.url)
        same = kind == registry.type and (
            site.open_store(_registry(kind, wish.url, None, None)).url == site.open_store(registry).url
        )
        if not same:
            raise _other(settings)
    if registry.type in SHARED and registry.username and not registry.password:
        raise InvalidInputError(
            f"The registry {site.open_store(registry).url} is configured, but the password of "
            f"{registry.username} is not known here. {_no_password()}"
        )
    return replace(_outcome(registry), changed=False)


def _other(settings: Settings) -> RefusedError:
    return RefusedError(
        f"A registry is configured already: {site.open_store(settings.registry).url} "
        f"({folders.config_path()}). Nothing was changed; morpheus registry migrate moves it elsewhere."
    )


def _no_password() -> str:
    return (
        "Bring it here: morpheus init --export on a device that has it, morpheus init --import here; or set "
        "STORAGEBOX_PASSWORD."
    )


def _is_of(registry: RegistrySettings, access: Access) -> bool:
    """Whether *access* is about the registry that is configured, be it as another user."""
    url = site.open_store(registry).url
    if (access.url, access.username) == (url, registry.username):
        return True
    mine = (access.registry_id, url, registry.username)
    return any((each.registry_id, each.url, each.username) == mine for each in kept.known(folders.data_dir()))


# The three ways


def _in_box(settings: Settings, wish: Wish) -> Outcome:
    from morpheus import founding  # noqa: PLC0415  # imports hcloud
    from morpheus.cloud.hetzner.boxes import Boxes  # noqa: PLC0415  # imports hcloud

    boxes, folder = Boxes(settings.machine.hetzner), folders.data_dir()
    with _alone():
        where = choosing.where_meant(boxes.find(), kept.known(folder), wish.box)
        if isinstance(where, founding.Elsewhere):
            return _in_box_of_another(boxes, where, wish)
        offer = None
        if isinstance(where, founding.Nowhere):
            if wish.kind is Kind.SUBACCOUNT:
                raise InvalidInputError("There is no Storage Box yet: morpheus init --storagebox makes one.")
            offer = boxes.offer(wish.location)
            if not wish.yes:
                choosing.confirm_paid(offer)
        with progress.shown("Making the Storage Box ..." if offer else "Going on with the Storage Box ..."):
            founded = founding.found_in_box(boxes, where, folder, offer)
        user = founded.access.username
        note = f"Storage Box: made, {offer}." if offer else f"Storage Box: {user}, which was there."
        return _settled(founded, note, KEEP_A_COPY)


def _in_box_of_another(boxes: "Boxes", where: "Elsewhere", wish: Wish) -> Outcome:
    """The registry of a box whose password this device does not have."""
    from morpheus import founding  # noqa: PLC0415  # imports hcloud

    folder = folders.data_dir()
    if wish.kind is not Kind.SUBACCOUNT and where.access is None:
        sentence = (
            f"The registry is in the Storage Box {where.box}, which another device made; its password is "
            "known there alone, and is never reset."
        )
        if not asking.somebody_is_here():
            raise InvalidInputError(
                f"{sentence} Run morpheus init --export there and morpheus init --import here (brings the "
                "key, too), or morpheus init --subaccount."
            )
        asking.tell(
            sentence,
            "  1  paste the line that morpheus init --export prints there (brings the key, too)",
            "  2  make a subaccount for this device, which may read and write the registry; without the key",
        )
        if asking.answer("1 or 2: ", {"1", "2"}) == "1":
            access = transfer.understood(asking.secret("Transfer text"))
            with progress.shown(f"Looking at {access.url} ..."):
                return _settled(founding.found_by_text(access, folder))
    with progress.shown("Making a subaccount for this device ..."):
        founded = founding.found_by_account(boxes, where, folder)
    return _settled(founded, f"Subaccount: {founded.access.username}.")


def _here() -> Outcome:
    """The registry in a file of this device."""
    from morpheus import founding  # noqa: PLC0415  # imports hcloud

    registry = RegistrySettings(type="none")
    with _alone():
        founded = founding.found_at(registry, folders.data_dir())
    return _written(registry, founded.key)


def _at_url(wish: Wish) -> Outcome:
    from morpheus import founding  # noqa: PLC0415  # imports hcloud

    url, username = wish.url, wish.username
    if not url:
        url = asking.answer("URL (https://host/folder/ for WebDAV, https://endpoint/bucket/folder/ for S3): ")
        username = (
            username or asking.answer("User (for S3 the id of the access key; empty for none): ") or None
        )
    kind = kind_of(url)
    if kind not in SHARED:
        raise InvalidInputError(
            "--url must begin with https:// (http:// only for a server on this machine); for a file of this "
            "device: morpheus init --none."
        )
    with _as_typed():
        registry = _registry(kind, url, username, _password(kind, url, username))
        site.open_store(registry)  # says what is wrong with the address
        with _alone(), progress.shown(f"Looking at {url} ..."):
            founded = founding.found_at(registry, folders.data_dir())
    return _settled(founded)


@contextlib.contextmanager
def _as_typed() -> Iterator[None]:
    """Let errors name the option that was given, not the setting that is not written yet."""
    try:
        yield
    except MorpheusError as error:
        named = str(error)
        for name in ("url", "username"):
            named = named.replace(f"registry.{name}", f"--{name}")
        error.args = (named.replace("registry.password", "the password"), *error.args[1:])
        raise


def _password(kind: str, url: str, username: str | None) -> SecretStr | None:
    """Of the environment, else as it is kept, else typed."""
    if username is None:
        return None
    told = os.environ.get(TARGET_PASSWORD) or (
        os.environ.get("STORAGEBOX_PASSWORD") if kind == "storagebox" else None
    )
    if told:
        return SecretStr(told)
    if known := kept.password(folders.data_dir(), url, username):
        return known
    if not sys.stdin.isatty():
        names = f"STORAGEBOX_PASSWORD or {TARGET_PASSWORD}" if kind == "storagebox" else TARGET_PASSWORD
        raise InvalidInputError(f"The password of {username} is missing: set {names}.")
    return SecretStr(getpass.getpass(f"Password of {username}: "))


def _registry(
    kind: str, url: str | None, username: str | None, password: SecretStr | None
) -> RegistrySettings:
    return RegistrySettings.model_validate(
        {"type": kind, "url": url, "username": username, "password": password}
    )


# Keeping the answer


def _settled(founded: "Founded", *notes: str) -> Outcome:
    access = founded.access
    registry = _registry(access.type, access.url, access.username, access.password)
    with leaves(
        f"The registry stands at {access.url}, but the settings may not name it yet: run morpheus init again."
    ):
        return _written(registry, founded.key, *notes)


def _written(registry: RegistrySettings, key: str | None, *notes: str) -> Outcome:
    """Write the settings: where, and as whom. The password is not among them."""
    old = config.load_file().registry
    new = {name: getattr(registry, name) for name in ("type", "url", "username")}
    said = {name for name in ("url", "username", "password") if getattr(old, name)}
    changes = {name: value for name, value in new.items() if value} | {
        name: "null" for name in said if not new.get(name)
    }
    words = [word for name, value in changes.items() for word in (f"registry.{name}", value)]
    configuring.change(words)
    environment = os.environ.get("STORAGEBOX_PASSWORD")
    mine = registry.password.get_secret_value() if registry.password else None
    if registry.type == "storagebox" and environment and environment != mine:
        notes += ("STORAGEBOX_PASSWORD is set here and wins over the password that is kept: unset it.",)
    return _outcome(registry, key, *notes)


def _outcome(registry: RegistrySettings, key: str | None = None, *notes: str) -> Outcome:
    path = folders.path_to_write().absolute()
    return Outcome(registry, site.open_store(registry).url, path, key, notes=notes)


def _alone() -> AbstractContextManager[None]:
    """Keep a second init of this device waiting."""
    folder = folders.data_dir()
    make_folder(folder)
    return locked(folder / ".init.lock", timeout=LOCK_TIMEOUT)

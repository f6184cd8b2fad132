"""Commands for the registry itself: what stands in it, its backups, its place. No Prefect here."""

import functools
import getpass
import os
import sys
from urllib.parse import urlsplit

from morpheus import folders, site
from morpheus import settings as config
from morpheus.errors import InvalidInputError
from morpheus.registry import Store, care
from morpheus.registry.document import Document
from morpheus.registry.local import LocalStore
from morpheus.settings import RegistrySettings

S3_HOSTS = (".your-objectstorage.com", ".amazonaws.com")
TARGET_PASSWORD = "MORPHEUS_TARGET_PASSWORD"  # noqa: S105  # the variable's name


def store(*, local: bool) -> Store:
    """The store of the shared registry, or of the one for this machine's own forests.

    Raises:
        InvalidInputError: no shared registry is configured.
    """
    settings = config.load()
    if local:
        return LocalStore(folders.data_dir() / "local.json")
    if settings.registry.type is None:
        raise InvalidInputError(
            "No registry is configured: see morpheus init. For the one of this machine's own "
            "forests add --local."
        )
    return site.open_store(settings.registry)


def show(*, local: bool, published: bool) -> str:
    """The text of the registry, or what another program wrote in its place."""
    chosen = store(local=local)
    text = chosen.foreign() if published else chosen.read().text
    if text is None:
        reason = "is as we wrote it" if published else "is empty: nothing was planted"
        raise InvalidInputError(f"{chosen.url} {reason}.")
    return text


def unlock(name: str, *, force: bool) -> str:
    """Free the forest, in whichever registry it is recorded."""
    from morpheus.cli.looking import the_forest  # noqa: PLC0415  # only for this

    return care.unlock(the_forest(name).registry, name, force=force)


def migrate(to: str, kind: str | None, username: str | None) -> tuple[str, str, Document]:
    """Move the shared registry to *to*; the old address, the new one, and what was moved.

    The password of the new place is taken from MORPHEUS_TARGET_PASSWORD, else asked for.
    """
    settings = config.load()
    store(local=False)  # else it says which one is missing
    source = functools.partial(site.open_store, settings.registry)
    target = functools.partial(site.open_store, _target(to, kind, username))
    old, new = source().url, target().url
    if new == old:
        raise InvalidInputError(f"The registry stands at {old} already.")
    return old, new, care.migrate(source, target)


def _target(to: str, kind: str | None, username: str | None) -> RegistrySettings:
    """The settings of the place that *to* names.

    Raises:
        InvalidInputError: it names none.
    """
    kind = kind or kind_of(to)
    if not to:
        raise InvalidInputError("--to names no place: give a URL, or a file that ends in .json.")
    if kind not in {"storagebox", "s3", "local"}:
        raise InvalidInputError(f"--type {kind} is none of storagebox, s3, local.")
    if kind == "local" and not to.endswith(".json"):
        raise InvalidInputError(f"--to {to!r} must be a URL, or a file that ends in .json.")
    password = _password(username) if kind != "local" else None
    return RegistrySettings.model_validate(
        {"type": kind, "url": to, "username": username, "password": password}
    )


def kind_of(to: str) -> str:
    """The kind of store that the address *to* means."""
    if not to.startswith(("http://", "https://")):
        return "local"
    host = urlsplit(to).hostname or ""
    return "s3" if host.endswith(S3_HOSTS) else "storagebox"


def _password(username: str | None) -> str | None:
    given = os.environ.get(TARGET_PASSWORD)
    if given or not username:
        return given
    if not sys.stdin.isatty():
        raise InvalidInputError(f"The password of {username} is missing: set {TARGET_PASSWORD}.")
    return getpass.getpass(f"Password of {username}: ")

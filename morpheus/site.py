"""Where things are for this user: the local registry and cloud, the shared registry, the secrets.

The one place that turns settings into stores and clouds; flows reach it through blocks, the command line
directly. Forests of this machine live in a registry of their own (``local.json``), always.
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from morpheus import folders
from morpheus.cloud import Cloud, Server
from morpheus.errors import InvalidInputError, MorpheusError, RefusedError, TransientError
from morpheus.folders import placed
from morpheus.forest import Forest
from morpheus.registry import Registry, Store
from morpheus.registry.local import LocalStore
from morpheus.settings import RegistrySettings, Settings

log = logging.getLogger("morpheus.site")

NO_REGISTRY = (
    "No registry is configured, so nobody would remember what is planted. Say where it is to be: "
    "morpheus init --storagebox --yes (a Storage Box at Hetzner, made where there is none; it costs), "
    "morpheus init --url URL --username USER (one that exists, WebDAV or S3), or "
    "morpheus init --none (a file of this device only)."
)

if TYPE_CHECKING:
    from morpheus.cloud.local import LocalCloud
    from morpheus.cloud.over_ssh import SshWays
    from morpheus.nats.access import AccessFolder
    from morpheus.registry.care import Place
    from morpheus.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Found:
    """A forest, the registry that records it, and that one's id."""

    forest: Forest
    registry: Registry
    registry_id: str


@dataclass(frozen=True, slots=True)
class Known:
    """The forests of the registries that could be read, by name, and why the others could not.

    ``shared_id`` is the id of the registry that devices share; None without one, or when it cannot be read.
    """

    forests: Sequence[Found]
    faults: Sequence[MorpheusError]
    shared_id: str | None


def local_registry(folder: Path | None = None) -> Registry:
    """The registry of this machine's own forests."""
    return Registry(LocalStore((folder or folders.data_dir()) / "local.json"))


def local_cloud(settings: Settings | None = None) -> "LocalCloud":
    """The cloud of this machine; *settings* say what new servers of it may use."""
    from morpheus.cloud.local import LocalCloud  # noqa: PLC0415  # list never needs it
    from morpheus.machine.limits import wanted_limits  # noqa: PLC0415

    wanted = wanted_limits((settings or Settings()).integration)
    return LocalCloud(folders.data_dir(), wanted=wanted)


def access_folder(folder: Path | None = None) -> "AccessFolder":
    from morpheus.nats.access import AccessFolder  # noqa: PLC0415  # list never needs it

    return AccessFolder((folder or folders.data_dir()) / "access")


def configured_cloud(settings: Settings) -> Cloud:
    """The cloud of the settings.

    Raises:
        InvalidInputError: there is no token for it.
    """
    if settings.machine.provider == "local":
        return local_cloud(settings)
    from morpheus.cloud.hetzner import HetznerCloud  # noqa: PLC0415  # imports hcloud

    port = settings.provisioning.ssh_port
    enter = functools.partial(_by_ssh, port)
    return HetznerCloud(settings.machine, settings.firewall, settings.dns, enter=enter, ssh_port=port)


def ways(settings: Settings, key: SecretStr) -> "SshWays":
    """The ways onto the machines of the forest with this *key*; the cloud is not asked."""
    return _by_ssh(settings.provisioning.ssh_port, key)


def _by_ssh(port: int, key: SecretStr) -> "SshWays":
    from morpheus.cloud.over_ssh import SshWays  # noqa: PLC0415  # imports asyncssh; list enters nothing

    return SshWays(key, port=port)


def open_store(registry: RegistrySettings, name: str | None = None) -> Store:
    """The store of the shared registry, or of the document *name* beside it.

    Raises:
        InvalidInputError: its address cannot be, or no registry is configured.
    """
    if registry.type is None:
        raise InvalidInputError(NO_REGISTRY)
    password = registry.password.get_secret_value() if registry.password else None
    if registry.type == "storagebox":
        from morpheus.registry.webdav import WebDavStore, document_url  # noqa: PLC0415  # imports httpx

        return WebDavStore(document_url(registry.url or ""), registry.username, password, name)
    if registry.type == "s3":
        from morpheus.registry import s3  # noqa: PLC0415  # imports obstore

        return s3.S3Store(s3.document_url(registry.url or ""), registry.username, password, name)
    url = (registry.url or "").removeprefix("file://")
    return file_store(placed(url, "registry.url") if url else folders.data_dir() / "registry.json", name)


def file_store(path: Path, name: str | None = None) -> LocalStore:
    """The store of the registry in the file *path*, or of the document *name* beside it."""
    return LocalStore(path.parent / f"{name}.json" if name else path)


def open_shelf(registry: RegistrySettings, cloud: Cloud) -> "Shelf | None":
    """The homes of forests beside the *registry*; None where it stands in no box of *cloud*."""
    if registry.type != "storagebox" or not registry.username or not registry.password:
        return None
    from morpheus.registry.dav import Dav  # noqa: PLC0415  # imports httpx
    from morpheus.registry.webdav import document_url  # noqa: PLC0415
    from morpheus.shelf import Shelf  # noqa: PLC0415

    url = document_url(registry.url or "")
    homes = cloud.homes(url, registry.username)
    if homes is None:
        return None
    base = url.rpartition("/")[0]
    return Shelf(homes, Dav(f"{base}/", registry.username, registry.password.get_secret_value()))


def shared_registry(settings: Settings) -> Registry | None:
    """The registry that other devices share; None when none is configured."""
    return Registry(open_store(settings.registry)) if settings.registry.type else None


def require_shared(settings: Settings) -> Registry:
    """The shared registry.

    Raises:
        InvalidInputError: none is configured.
    """
    shared = shared_registry(settings)
    if shared is None:
        raise InvalidInputError(NO_REGISTRY)
    if settings.registry.type == "none":
        log.warning("registry.type is none: what is planted is known to this device only, in %s", shared.url)
    return shared


def registries(settings: Settings) -> tuple[Registry, ...]:
    """Every registry that is read: this machine's own, and the shared one."""
    shared = shared_registry(settings)
    return (local_registry(), shared) if shared else (local_registry(),)


def local_place() -> "Place":
    """Where the registry of this machine's own forests stands, with the documents beside it."""
    return functools.partial(file_store, folders.data_dir() / "local.json")


def place_of(settings: Settings, forest: Forest) -> "Place":
    """Where the registry that records *forest* stands, with the documents beside it."""
    return local_place() if forest.provider == "local" else functools.partial(open_store, settings.registry)


def find(settings: Settings, name: str) -> Found | None:
    """The forest *name* in whichever registry records it."""
    for registry in registries(settings):
        document = registry.read()
        if forest := document.forests.get(name):
            return Found(forest, registry, document.registry_id or "")
    return None


def cloud_of(settings: Settings, forest: Forest) -> Cloud:
    """The cloud on which *forest* stands.

    Raises:
        InvalidInputError: there is no token for it.
    """
    return local_cloud() if forest.provider == "local" else configured_cloud(settings)


def unrecorded(settings: Settings, name: str, cloud: Cloud | None = None) -> Sequence[Server]:
    """Servers of ours, on *cloud* or that of the settings, that bear the forest's *name* unrecorded."""
    if found := local_cloud().list_servers(local_registry().read().registry_id or "", name):
        return found
    shared = shared_registry(settings)
    registry_id = shared.read().registry_id if shared else None
    if registry_id is None:
        return ()
    if cloud is None:
        if settings.machine.provider == "local" or not settings.machine.hetzner.token:
            return ()
        cloud = configured_cloud(settings)
    return cloud.list_servers(registry_id, name)


def check_unique(settings: Settings, name: str, home: Registry) -> None:
    """Raise RefusedError when another registry than *home* records a forest *name*.

    One that gives no answer keeps nobody from planting on this machine.
    """
    for registry in registries(settings):
        try:
            taken = registry.url != home.url and registry.find(name)
        except TransientError as error:
            log.warning("whether %s is a forest there already is not known: %s", name, error)
            continue
        if taken:
            raise RefusedError(f"{name} is a forest recorded in {registry.url} already: choose another name.")


def known_names(settings: Settings) -> str:
    """A sentence that lists the forests there are."""
    names = ", ".join(each.forest.name for each in everything(settings))
    return f"The forests are: {names}." if names else "There are no forests yet."


def everything(settings: Settings) -> list[Found]:
    """All forests of all registries, by name."""
    known = what_is_known(settings)
    for fault in known.faults:
        raise fault
    return list(known.forests)


def what_is_known(settings: Settings) -> Known:
    """All forests of the registries that can be read, and why the others cannot."""
    found: list[Found] = []
    faults: list[MorpheusError] = []
    shared_id = None
    own, *shared = registries(settings)
    for registry in (own, *shared):
        try:
            document = registry.read()
        except MorpheusError as error:
            faults.append(error)
            continue
        known = document.forests.values()
        found += [Found(forest, registry, document.registry_id or "") for forest in known]
        if registry is not own:
            shared_id = document.registry_id
    return Known(sorted(found, key=lambda each: each.forest.name), faults, shared_id)

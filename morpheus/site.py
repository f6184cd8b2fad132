"""Where things are for this user: the local registry and cloud, the shared registry, the secrets.

The one place that turns settings into stores and clouds; flows reach it through blocks, the command line
directly. Forests of this machine live in a registry of their own (``local.json``), always.
"""

from dataclasses import dataclass
from pathlib import Path

from morpheus import settings as config
from morpheus.cloud.local import LocalCloud
from morpheus.errors import MissingPartError
from morpheus.forest import Forest
from morpheus.nats.access import AccessFolder
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from morpheus.settings import Settings


@dataclass(frozen=True, slots=True)
class Found:
    """A forest, and the registry that records it."""

    forest: Forest
    registry: Registry


def local_registry(folder: Path | None = None) -> Registry:
    """The registry of this machine's own forests."""
    return Registry(LocalStore((folder or config.data_dir()) / "local.json"))


def local_cloud(folder: Path | None = None) -> LocalCloud:
    return LocalCloud(folder or config.data_dir())


def access_folder(folder: Path | None = None) -> AccessFolder:
    return AccessFolder((folder or config.data_dir()) / "access")


def shared_registry(settings: Settings) -> Registry | None:
    """The registry that other devices share; None when none is configured.

    Raises:
        MissingPartError: the configured type of store is not built in yet.
    """
    kind = settings.registry.type
    if kind is None:
        return None
    if kind in ("local", "none"):
        return Registry(LocalStore(config.data_dir() / "registry.json"))
    raise MissingPartError(
        f"registry.type: {kind} is not built in yet; use local, or leave it out, in {config.config_path()}."
    )


def registries(settings: Settings) -> tuple[Registry, ...]:
    """Every registry that is read: this machine's own, and the shared one."""
    shared = shared_registry(settings)
    return (local_registry(), shared) if shared else (local_registry(),)


def find(settings: Settings, name: str) -> Found | None:
    """The forest *name* in whichever registry records it."""
    for registry in registries(settings):
        if forest := registry.find(name):
            return Found(forest, registry)
    return None


def everything(settings: Settings) -> list[Found]:
    """All forests of all registries, by name."""
    found = [
        Found(forest, registry)
        for registry in registries(settings)
        for forest in registry.read().forests.values()
    ]
    return sorted(found, key=lambda each: each.forest.name)

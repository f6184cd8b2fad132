"""Reading commands: find the forest that is meant, look at it, connect to it. No Prefect here."""

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import morpheus
from morpheus import folders, site
from morpheus import settings as config
from morpheus.errors import ForestNotFoundError, InvalidInputError, MachineError, MissingPartError
from morpheus.files import make_folder, replace_file
from morpheus.forest import check_name
from morpheus.nats.config import client_url
from morpheus.site import Found
from morpheus.watch import Health

WATCH_EVERY = 2.0  # seconds
BY_US = ", by Morpheus"  # how the description of a context of ours ends


def the_forest(name: str | None) -> Found:
    """The forest *name*, or the only one there is.

    Raises:
        ForestNotFoundError: there is none of that name.
        InvalidInputError: no name was given and there is not exactly one forest.
    """
    settings = config.load()
    if name is not None:
        found = site.find(settings, check_name(name))
        if found is None:
            raise ForestNotFoundError(f"There is no forest {name}. {site.known_names(settings)}")
        return found
    everything = site.everything(settings)
    if len(everything) != 1:
        raise InvalidInputError(f"Say which forest. {site.known_names(settings)}")
    return everything[0]


def examine(found: Found) -> Health:
    from morpheus import watch  # noqa: PLC0415  # list needs none of it

    return watch.examine(found.forest, site.cloud_of(config.load(), found.forest), found.registry_id)


def looks(found: Found) -> Iterator[Health]:
    """Look at the forest again and again."""
    while True:
        yield examine(found)
        time.sleep(WATCH_EVERY)
        found = the_forest(found.forest.name)


def connect(found: Found, *, system: bool) -> tuple[str, Path, dict[str, str]]:
    """Write a context as the ``nats`` command reads it: its name, its file, and the environment."""
    forest = found.forest
    if forest.provider != "local":
        raise MissingPartError(
            f"Only the machines of {forest.name} are made so far; there is no NATS server to connect to yet."
        )
    folder = site.access_folder()
    if folder.find(forest.name) is None:
        raise MissingPartError(
            f"The secrets of {forest.name} are not on this machine; connect where it was planted."
        )
    urls = ",".join(client_url(node) for node in forest.staying if node.ip)
    seed = str(folder.seed_file(forest.name, system=system))
    name = f"{forest.name}-system" if system else forest.name
    description = f"{forest.name}, {'system' if system else 'application'} account{BY_US}"
    context = {"description": description, "url": urls, "nkey": seed}
    path = _context(name)
    make_folder(path.parent)
    try:
        replace_file(path, json.dumps(context, indent=2).encode())
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror or error}.") from error
    return name, path, {"NATS_URL": urls} | ({"NATS_NKEY": seed} if system else {})


def forget_contexts(forest: str) -> None:
    """Remove the contexts that :func:`connect` wrote for *forest*; those of others with its name stay."""
    for name in (forest, f"{forest}-system"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(_context(name).read_text())["description"].endswith(BY_US):
                _context(name).unlink()


def _context(name: str) -> Path:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "nats" / "context" / f"{name}.json"


def versions() -> dict[str, str]:
    """The versions of what matters, by name."""
    from morpheus.machine.binaries import nats_server  # noqa: PLC0415  # only for this

    try:
        wanted = config.load().integration
        server = nats_server(wanted.nats_version, folders.cache_dir(), wanted.nats_releases_url)
        nats = f"{server.version} from {server.origin}"
    except MissingPartError as error:
        nats = str(error)
    return {
        "morpheus": morpheus.__version__,
        "python": platform.python_version(),
        "prefect": importlib.metadata.version("prefect"),
        "nats-server": nats,
    }

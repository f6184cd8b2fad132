"""Reading commands: find the forest that is meant, and look at it. No Prefect here."""

import importlib.metadata
import platform
import time
from collections.abc import Iterator

import morpheus
from morpheus import folders, site
from morpheus import settings as config
from morpheus.cloud import Cloud
from morpheus.errors import (
    ForestNotFoundError,
    InvalidInputError,
    MissingPartError,
    NotReadyError,
)
from morpheus.forest import Forest, Node, check_name
from morpheus.health import Health
from morpheus.settings import Settings
from morpheus.site import Found

WATCH_EVERY = 2.0  # seconds


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


def nodes_meant(forest: Forest, node: str | None = None) -> tuple[Node, ...]:
    """The nodes of *forest* that have machines, or the one of them that *node* names.

    Raises:
        InvalidInputError: it has no such node; lists those it has.
        NotReadyError: what is meant has no machine yet.
    """
    meant = [each for each in forest.staying if node in (None, each.name, each.label, str(each.number))]
    if node and not meant:
        labels = ", ".join(each.label for each in forest.staying) or "none yet"
        raise InvalidInputError(f"{forest.name} has no node {node}; its nodes are: {labels}.")
    placed = tuple(each for each in meant if each.ip)
    if not placed:
        who = f"The node {meant[0].name}" if node else forest.name
        raise NotReadyError(f"{who} has no machine yet: morpheus plant goes on with it.")
    return placed


def examine(found: Found) -> Health:
    """Look at the forest; where its machines cannot be entered, at whether they run."""
    return next(looks(found))


def looks(found: Found) -> Iterator[Health]:
    """Look at the forest again and again."""
    from morpheus import health  # noqa: PLC0415  # list needs none of it

    settings = config.load()
    cloud, unread = site.cloud_of(settings, found.forest), "not tried yet"
    while True:
        if unread:
            cloud, unread = entered(settings, found, cloud)
        yield health.examine(found.forest, cloud, found.registry_id, unread=unread)
        time.sleep(WATCH_EVERY)
        found = the_forest(found.forest.name)


def entered(settings: Settings, found: Found, cloud: Cloud) -> tuple[Cloud, str]:
    """The cloud whose machines of the forest are entered, or as it is and why they are not."""
    if not cloud.needs_key:
        return cloud, ""
    from morpheus import keyring  # noqa: PLC0415  # imports cryptography

    return keyring.entered_or_why(settings, cloud, found.forest)


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

"""What a list tells of the cloud, which is asked for all forests at once and never waited for long."""

import threading
from typing import TYPE_CHECKING

from morpheus import site
from morpheus.errors import MorpheusError
from morpheus.settings import Settings
from morpheus.site import Known

if TYPE_CHECKING:
    from morpheus.census import Census

BOUND = 6.0  # seconds


def place_to_plant(settings: Settings) -> str:
    """Where a first forest is to be planted: in the cloud where one is configured."""
    machine = settings.machine
    return "cloud" if machine.provider == "hetzner" and machine.hetzner.token else "local"


def census(known: Known, settings: Settings) -> "Census | None":
    """What the configured cloud has of the forests on it and of the registry they share.

    None where nothing of that registry can be on it. A cloud that gives no answer for some seconds, or
    cannot be asked, keeps nobody from listing.
    """
    machine, registry_id = settings.machine, known.shared_id
    if machine.provider == "local" or registry_id is None:
        return None
    there = [each.forest for each in known.forests if each.forest.provider == machine.provider]
    if not there and not machine.hetzner.token:
        return None  # nothing has been planted there, and nothing can be
    from morpheus.census import Census, taken  # noqa: PLC0415  # without a cloud nobody needs it

    asked: list[Census] = []

    def ask() -> None:
        try:
            servers = site.configured_cloud(settings).list_servers(registry_id)
            asked.append(taken(there, servers))
        except MorpheusError as error:
            asked.append(Census({}, fault=str(error)))

    thread = threading.Thread(target=ask, daemon=True)  # so that nobody has to wait for its end
    thread.start()
    thread.join(BOUND)
    return asked[0] if asked else Census({}, fault=f"There was no answer for {BOUND:.0f} s.")

"""What a list tells of the cloud, which is asked for all forests at once and never waited for long."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from morpheus import site
from morpheus.errors import MorpheusError
from morpheus.settings import Settings
from morpheus.site import Found

if TYPE_CHECKING:
    from morpheus.census import Census

BOUND = 6.0  # seconds


def census(found: Sequence[Found], settings: Settings) -> "Census | None":
    """What the configured cloud has of the forests on it and of the registry they share; None without any.

    A cloud that gives no answer for some seconds, or cannot be asked, keeps nobody from listing.
    """
    there = [each for each in found if each.forest.provider == settings.machine.provider != "local"]
    if not there:
        return None
    from morpheus.census import Census, taken  # noqa: PLC0415  # without such forests nobody needs it

    asked: list[Census] = []

    def ask() -> None:
        try:
            servers = site.configured_cloud(settings).list_servers(there[0].registry_id)
            asked.append(taken([each.forest for each in there], servers))
        except MorpheusError as error:
            asked.append(Census({}, fault=str(error)))

    thread = threading.Thread(target=ask, daemon=True)  # so that nobody has to wait for its end
    thread.start()
    thread.join(BOUND)
    return asked[0] if asked else Census({}, fault=f"There was no answer for {BOUND:.0f} s.")

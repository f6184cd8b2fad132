"""A forest's home in the Storage Box of the registry: written from here, read by the nodes of that forest."""

import contextlib
import hashlib
import logging
import threading

from morpheus.cloud import NODES, Homes
from morpheus.machine.share import Share
from morpheus.registry.dav import Dav, MissingCollectionError

log = logging.getLogger("morpheus.share")

REGISTRY, PROGRAMS = "registry.json", "bin"


class Shelf:
    """The homes of all forests of one registry.

    Args:
        homes: who makes them, with an account each.
        dav: the collection in which the registry stands, as it is written from here.
    """

    def __init__(self, homes: Homes, dav: Dav) -> None:
        self._homes, self._dav = homes, dav
        self._turn = threading.Lock()  # machines want the same program at once

    def share(self, forest: str, password: str) -> Share:
        """The home of *forest* as its nodes open it, made where there is none."""
        home = self._homes.ensure(forest, password)
        return Share(home.host, home.username, password)

    def publish(self, forest: str, part: bytes) -> None:
        """Let the nodes of *forest* read *part* as their registry."""
        self._put(f"{NODES}/{forest}", REGISTRY, part)

    def upload(self, forest: str, program: bytes) -> str:
        """Let the nodes of *forest* fetch *program*; its name in their home."""
        folder, name = f"{NODES}/{forest}/{PROGRAMS}", hashlib.sha256(program).hexdigest()
        with self._turn:
            there, _ = self._dav.children(f"{folder}/")
            if name not in (there or {}):
                self._put(folder, name, program)
        return f"{PROGRAMS}/{name}"

    def clear(self, forest: str) -> None:
        """Remove the home of *forest* with its account."""
        self._homes.remove(forest)
        self._dav.delete(f"{NODES}/{forest}/", patiently=True)

    def _put(self, folder: str, name: str, content: bytes) -> None:
        with contextlib.suppress(MissingCollectionError):
            self._dav.put(f"{folder}/{name}", content)  # at once: a missing folder will not come by itself
            return
        self._dav.make_collections(folder)
        self._dav.put(f"{folder}/{name}", content, patiently=True)

"""A program that changes a registry again and again, and notes in a log of its own what was acknowledged.

REGISTRY is a path, or s3: or dav: and the URL of a document of a server of these tests.

Usage: python -m tests.morpheus.writer REGISTRY LOG FIRST COUNT
"""

import sys
from dataclasses import replace
from pathlib import Path

from morpheus.forest import Forest
from morpheus.registry import Registry, Store
from morpheus.registry.local import LocalStore


def opened(where: str) -> Store:
    kind, _, url = where.partition(":")
    if kind == "s3":
        from morpheus.registry.s3 import S3Store  # noqa: PLC0415  # a writer to a file starts without it
        from tests.servers.s3 import KEY_ID, SECRET  # noqa: PLC0415

        return S3Store(url, KEY_ID, SECRET)
    if kind == "dav":
        from morpheus.registry.webdav import WebDavStore  # noqa: PLC0415

        return WebDavStore(url, None, None)
    return LocalStore(Path(where))


def write(where: str, log: Path, first: int, count: int) -> None:
    """Add the numbers from *first* on to the used numbers of the forest oak, one update each."""
    registry = Registry(opened(where))
    with log.open("a") as acknowledged:
        for number in range(first, first + count):
            registry.update(
                lambda document, _, number=number: document.with_forest(  # type: ignore[misc]
                    added(document.forests.get("oak", Forest("oak")), number)
                )
            )
            acknowledged.write(f"{number}\n")
            acknowledged.flush()


def added(forest: Forest, number: int) -> Forest:
    return replace(forest, used_numbers=(*forest.used_numbers, number))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

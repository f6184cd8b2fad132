"""A program that adds numbers to a registry on a WebDAV server, and notes each acknowledged one in a log.

Usage: python -m tests.servers.writer URL USER PASSWORD LOG FIRST COUNT LOCK_TIMEOUT
"""

import sys
from pathlib import Path

from morpheus.forest import Forest
from morpheus.registry import Registry, locked
from morpheus.registry.webdav import WebDavStore
from tests.morpheus.writer import added


def write(registry: Registry, log: Path, first: int, count: int) -> None:
    with log.open("a") as acknowledged:
        for number in range(first, first + count):
            add(registry, number)
            acknowledged.write(f"{number}\n")
            acknowledged.flush()


def add(registry: Registry, number: int) -> None:
    registry.update(
        lambda document, _: document.with_forest(added(document.forests.get("oak", Forest("oak")), number))
    )


def recorded(registry: Registry) -> list[int]:
    document = registry.read()
    return list(document.forests["oak"].used_numbers) if document.forests else []


def main(url: str, user: str, password: str, log: str, *numbers: str) -> None:
    first, count, timeout = map(int, numbers)
    locked.LOCK_TIMEOUT = timeout
    write(Registry(WebDavStore(url, user or None, password)), Path(log), first, count)


if __name__ == "__main__":
    main(*sys.argv[1:])

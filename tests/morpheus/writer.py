"""A program that changes a registry again and again, and notes in a log of its own what was acknowledged.

Usage: python -m tests.morpheus.writer REGISTRY LOG FIRST COUNT
"""

import sys
from dataclasses import replace
from pathlib import Path

from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore


def write(path: Path, log: Path, first: int, count: int) -> None:
    """Add the numbers from *first* on to the used numbers of the forest oak, one update each."""
    registry = Registry(LocalStore(path))
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
    write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

"""One of several programs that let a forest grow as soon as it may, each on a Prefect server of its own.

It is given the folder of that server. It prints a line for each decision: ``grew``, or the error's name.
"""

import sys
import time
from pathlib import Path

from morpheus import site
from morpheus.errors import MorpheusError
from tests.flows.served import served

PAUSE = 0.05  # seconds between two decisions


def decide() -> str:
    """Decide on what the registry says, and do it."""
    from flows.grow import grow  # noqa: PLC0415  # Prefect takes its settings at import

    forest = site.local_registry().find("oak")
    assert forest
    seen = len(forest.staying)
    try:
        grown = grow("oak", nodes=seen + 1, seen=seen, expanded=forest.last_expansion, auto=True)
    except MorpheusError as error:
        return type(error).__name__
    return f"grew {' '.join(grown.fresh)}"


def main(folder: str) -> None:
    with served(Path(folder)):
        while True:
            print(decide(), flush=True)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])

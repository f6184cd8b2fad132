"""One of several programs that let a forest grow as soon as it may, each on a Prefect server of its own.

It is given the folder of that server, and by how many minutes its clock is fast. It prints a line for each
decision: ``grew``, or the error's name.
"""

import importlib
import pkgutil
import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import morpheus
from morpheus import settings as config
from morpheus import site
from morpheus.errors import MorpheusError
from tests.flows.served import served

PAUSE = 0.05  # seconds between two decisions


def decide() -> str:
    """Decide on what the registry says, and do it."""
    from flows.grow import grow  # noqa: PLC0415  # Prefect takes its settings at import

    found = site.find(config.load(), "oak")
    assert found
    forest = found.forest
    seen = len(forest.staying)
    try:
        grown = grow("oak", nodes=seen + 1, seen=seen, expanded=forest.last_expansion, auto=True)
    except MorpheusError as error:
        return type(error).__name__
    return f"grew {' '.join(grown.fresh)}"


def set_clock(minutes: int) -> None:
    """Have all of Morpheus read a clock that is fast; Prefect and its server go by the right one."""
    from flows import grow  # noqa: F401, PLC0415  # Prefect takes its settings at import

    for each in pkgutil.walk_packages(morpheus.__path__, "morpheus."):
        importlib.import_module(each.name)

    class AnyTime(type(datetime)):  # type: ignore[misc]  # a class as any other
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Fast(datetime, metaclass=AnyTime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(minutes=minutes)

    for name, module in list(sys.modules.items()):
        if name.startswith(("morpheus", "flows", "tasks", "blocks")):
            for key, value in list(vars(module).items()):
                if value is datetime:
                    setattr(module, key, Fast)


def main(folder: str, minutes: str) -> None:
    with served(Path(folder)):
        if int(minutes):
            set_clock(int(minutes))
        while True:
            print(decide(), flush=True)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])

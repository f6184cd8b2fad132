"""``morpheus``, killed as it is about to do one step: nothing is caught, undone or told.

It is given the step, ``module:function`` (or with ``@k`` its k-th call, with ``!`` once that has ended), then
the words of the command. A fence that it puts up lifts itself sooner than usual.
"""

import contextlib
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from morpheus.cli import main, running
from morpheus.machine import watchman

SHORT = 8.0  # seconds after which a fence that nobody renews lifts itself


def make_deadly(step: str) -> None:
    """Have the process killed at *step*."""
    place, _, call = step.removesuffix("!").partition("@")
    module, _, path = place.partition(":")
    holder: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        holder = getattr(holder, each)
    usual, calls = getattr(holder, name), itertools.count(1)

    def deadly(*given: Any, **more: Any) -> Any:
        last = next(calls) == int(call or 1)
        if last and not step.endswith("!"):
            os.kill(os.getpid(), signal.SIGKILL)
        done = usual(*given, **more)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(holder, name, deadly)


def run(step: str) -> None:
    """Run the command that stands in ``sys.argv`` until *step*."""
    usual = running._prefect

    @contextlib.contextmanager
    def prefect() -> Iterator[None]:
        with usual():  # flows are imported within, for Prefect takes its settings then
            make_deadly(step)
            yield

    watchman.LIFTS_AFTER = SHORT
    running._prefect = prefect
    main()


if __name__ == "__main__":
    run(sys.argv.pop(1))

"""``morpheus``, killed as it is about to do one step: nothing is caught, undone or told.

It is given the step, ``module:function`` (with ``@k`` its k-th call, with ``!`` once that has ended; of
several with commas between, each is waited for after the one before), then the words of the command. A fence
that it puts up lifts itself sooner than usual.
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

SHORT = 8.0  # seconds after which a fence that nobody renews lifts itself


def make_deadly(steps: str) -> None:
    """Have the process killed at the last of *steps*."""
    step, _, later = steps.partition(",")
    place, _, call = step.removesuffix("!").partition("@")
    module, _, path = place.partition(":")
    holder: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        holder = getattr(holder, each)
    usual, calls = getattr(holder, name), itertools.count(1)

    def reached() -> None:
        if not later:
            os.kill(os.getpid(), signal.SIGKILL)
        make_deadly(later)

    def deadly(*given: Any, **more: Any) -> Any:
        it = next(calls) == int(call or 1)
        if it and not step.endswith("!"):
            reached()
        done = usual(*given, **more)
        if it and step.endswith("!"):
            reached()
        return done

    setattr(holder, name, deadly)


def run(step: str) -> None:
    """Run the command that stands in ``sys.argv`` until *step*."""
    usual = running._prefect

    @contextlib.contextmanager
    def prefect() -> Iterator[None]:
        with usual():  # flows are imported within, for Prefect takes its settings then
            importlib.import_module("flows._migration").LIFTS_AFTER = SHORT  # type: ignore[attr-defined]
            make_deadly(step)
            yield

    running._prefect = prefect
    main()


if __name__ == "__main__":
    run(sys.argv.pop(1))

"""``morpheus``, killed as it is about to do one step: nothing is caught, undone or told.

It is given the step, ``module:function`` (with ``@k`` its k-th call, with ``!`` once that has ended; of
several with commas between, each is waited for after the one before), then ``alone`` or, where what stands by
is to be killed first, ``both``, then the words of the command. A fence that it puts up lifts itself sooner
than usual.
"""

import contextlib
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import psutil

from flows._standby import MODULE
from morpheus.cli import main, running

SHORT = 8.0  # seconds after which a fence that nobody renews lifts itself


def make_deadly(steps: str, *, both: bool) -> None:
    """Have the process killed at the last of *steps*; *both*: and what stands by as well."""
    step, _, later = steps.partition(",")
    place, _, call = step.removesuffix("!").partition("@")
    module, _, path = place.partition(":")
    holder: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        holder = getattr(holder, each)
    usual, calls = getattr(holder, name), itertools.count(1)

    def reached() -> None:
        if later:
            make_deadly(later, both=both)
            return
        for child in psutil.Process().children() if both else ():
            if child.status() != psutil.STATUS_ZOMBIE and MODULE in child.cmdline():
                child.kill()
                child.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    def deadly(*given: Any, **more: Any) -> Any:
        it = next(calls) == int(call or 1)
        if it and not step.endswith("!"):
            reached()
        done = usual(*given, **more)
        if it and step.endswith("!"):
            reached()
        return done

    setattr(holder, name, deadly)


def run(step: str, who: str) -> None:
    """Run the command that stands in ``sys.argv`` until *step*."""
    usual = running._prefect

    @contextlib.contextmanager
    def prefect() -> Iterator[None]:
        with usual():  # flows are imported within, for Prefect takes its settings then
            importlib.import_module("flows._migration").LIFTS_AFTER = SHORT  # type: ignore[attr-defined]
            make_deadly(step, both={"alone": False, "both": True}[who])
            yield

    running._prefect = prefect
    main()


if __name__ == "__main__":
    run(sys.argv.pop(1), sys.argv.pop(1))

"""Prefect's server as a program that forgets at once what it is done with.

A request that ends early can leave a cursor open in which it wrote, and with it SQLite's one lock for
writers, until the garbage collector finds both; every other write waits for that, up to a minute long, and
so does the flow that needs it (seen with Prefect 3.8: once in some fifty flows). So what came lately is
looked through every second. What is alive is set aside whenever that is much: the server loads half a
million objects in its first twenty seconds, and to look at them all takes some 0.15 s. What was in use when
it was set aside, and is forgotten since, is found twice a minute, when all is looked through.
"""

import gc
import itertools
import threading
import time

EVERY = 1.0  # seconds
ALL = 30  # looks, of which one is at everything
LONG = 0.01  # seconds of the processor for one look, which some 20,000 objects take


def collect_often() -> None:
    """From now on let a thread find what nobody refers to any more, while the process lives."""
    threading.Thread(target=_collect, name="collector", daemon=True).start()


def _collect() -> None:
    for look in itertools.count(1):
        time.sleep(EVERY)
        if look % ALL == 0:
            gc.unfreeze()
        began = time.thread_time()
        gc.collect()
        # Not told by counting objects: who lists them all holds, for a moment, what other threads still make.
        if look % ALL == 0 or time.thread_time() - began > LONG:
            gc.freeze()


def main() -> None:
    """Prefect's own command line, with the words of this process."""
    collect_often()
    from prefect.cli import app  # noqa: PLC0415  # only in the program

    app()


if __name__ == "__main__":
    main()

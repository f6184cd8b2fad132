"""Prefect's server as a program that forgets at once what it is done with.

A request that ends early can leave a cursor open in which it wrote, and with it SQLite's one lock for
writers, until the garbage collector finds both; every other write waits for that, up to a minute long, and
so does the flow that needs it (seen with Prefect 3.8: once in some fifty flows). So what is alive once the
server runs is set aside, and the little that came since is looked through every second.
"""

import gc
import threading
import time

EVERY = 1.0  # seconds
_START = 5.0  # seconds until what is loaded once is loaded


def collect_often() -> None:
    """From now on let a thread find what nobody refers to any more, while the process lives."""
    threading.Thread(target=_collect, name="collector", daemon=True).start()


def _collect() -> None:
    time.sleep(_START)
    gc.collect()
    gc.freeze()
    while True:
        time.sleep(EVERY)
        gc.collect()


def main() -> None:
    """Prefect's own command line, with the words of this process."""
    collect_often()
    from prefect.cli import app  # noqa: PLC0415  # only in the program

    app()


if __name__ == "__main__":
    main()

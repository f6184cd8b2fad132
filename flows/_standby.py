"""Who goes on with a move of streams when the run that makes it does not: another process of this computer.

It reads from the run, which says a word when nothing is left to do. When the run is killed the pipe ends
without one, and the other process undoes the move, or finishes what is committed (morpheus/cli/standby.py).
Where both are killed, or the computer fails, the fence still lifts itself until the old server is stopped.
"""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from morpheus import folders
from morpheus.migration import is_moving
from morpheus.registry.lease import Hold

log = logging.getLogger("morpheus.move")

MODULE = "morpheus.cli.standby"
STOOD_BY = "MORPHEUS_STOOD_BY"  # set where somebody stands by already, or nobody is to
ENDED = b"ended"
GOES_WITHIN = 10.0  # seconds for it to hear that it is not needed


def log_of(forest: str) -> Path:
    """What the other process says once it goes on; the file is gone when all is well."""
    return folders.data_dir() / "standby" / f"{forest}.log"


@contextlib.contextmanager
def standby(hold: Hold, cloud: str, registry: str, key: str) -> Iterator[None]:
    """Have a move finished or undone also when this process is killed while the block runs, or it fails.

    The slugs are those of the run. Nothing happens where no streams move.
    """
    if not is_moving(hold.forest) or STOOD_BY in os.environ:
        yield
        return
    name, process = hold.forest.name, None
    try:
        process = _started(name, cloud, registry, key)
    except Exception as error:  # noqa: BLE001  # the move itself needs nobody
        log.warning("%s: nobody stands by should this run be killed: %s", name, error)
    try:
        yield
    finally:
        if process:
            _leave(process, name, needed=is_moving(hold.forest))


def _started(*words: str) -> "subprocess.Popen[bytes]":
    environment, root = dict(os.environ), str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    environment["MORPHEUS_DATA_DIR"] = str(folders.data_dir())
    if config := folders.config_path():
        environment["MORPHEUS_CONFIG"] = str(config.absolute())
    return subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, "wait", *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and a terminal that is closed are for the run alone
    )


def _leave(process: "subprocess.Popen[bytes]", name: str, *, needed: bool) -> None:
    ended = process.poll()
    if ended is not None:
        log.warning("%s: what stood by had ended with code %d", name, ended)
    elif needed:
        log.warning("%s: another process (pid %d) sees to it, see %s", name, process.pid, log_of(name))
    if ended is not None or needed:
        assert process.stdin
        process.stdin.close()
        return
    try:
        process.communicate(ENDED, timeout=GOES_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    forget(name)


def forget(forest: str) -> None:
    """Remove what another process said of *forest*: all is well."""
    with contextlib.suppress(OSError):
        log_of(forest).unlink()

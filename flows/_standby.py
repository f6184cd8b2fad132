"""Who goes on with a move of streams when the run that makes it is killed: another process of this computer.

It reads from the run, which says a word when it ends by itself. When it is killed the pipe ends without one,
and the other process undoes the move, or finishes what is committed (morpheus/cli/standby.py). Where both are
killed, or the whole computer fails, the fence still lifts itself until the old server is stopped.
"""

import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from morpheus import folders
from morpheus.files import make_folder
from morpheus.forest import Forest
from morpheus.migration import is_moving

log = logging.getLogger("morpheus.move")

MODULE = "morpheus.cli.standby"
ENDED = b"ended"
GOES_WITHIN = 10.0  # seconds for it to hear that it is not needed


def log_of(forest: str) -> Path:
    """What the other process says; the file is there only while it is, and after it has failed."""
    return folders.data_dir() / "standby" / f"{forest}.log"


@contextlib.contextmanager
def standby(forest: Forest, cloud: str, registry: str, key: str) -> Iterator[None]:
    """Have the move of *forest* finished or undone also when this process is killed while the block runs.

    The slugs are those of the run. Nothing happens where no streams move.
    """
    if not is_moving(forest):
        yield
        return
    path = log_of(forest.name)
    make_folder(path.parent)
    process = None
    try:
        with path.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, forest.name, cloud, registry, key],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C and a terminal that is closed are for the run alone
            )
    except OSError as error:
        log.warning("%s: nobody stands by should this run be killed: %s", forest.name, error)
    try:
        yield
    finally:
        if process:
            _dismiss(process)
            path.unlink(missing_ok=True)


def _dismiss(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.communicate(ENDED, timeout=GOES_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

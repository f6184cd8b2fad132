"""What lifts the fence around a server of this computer when nobody renews it, also when its maker is gone.

The fence is the file ``fence/armed`` in the folder of a machine; renewing it is touching it.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from morpheus import host
from morpheus.errors import MorpheusError
from morpheus.files import replace_file
from morpheus.machine import NATS, Program, processes
from morpheus.machine.beside import LIFTS_AFTER

NAME, MODULE = "fence", "morpheus.machine.beside.watchman"
_LOOKS_EVERY = 0.2  # seconds
ARMED, LIFTED, CLOSED, OPEN = (f"{NAME}/{word}" for word in ("armed", "lifted", "closed", "open.conf"))


def program(folder: Path, lifts_after: float = LIFTS_AFTER) -> Program:
    """This program for the machine in *folder*."""
    package = Path(__file__).parents[3]
    argv = (sys.executable, "-P", "-m", MODULE, str(folder), str(lifts_after))
    return Program(NAME, argv, {"PYTHONPATH": str(package)})


def watch(folder: Path, lifts_after: float) -> None:
    """Return when the fence is gone, or was lifted because it was not touched for so many seconds.

    The clock counts while the computer sleeps, and nobody sets it.
    """
    touched, since = None, host.awake_seconds()
    while True:
        try:
            found = (folder / ARMED).stat().st_mtime_ns
        except FileNotFoundError:
            open_again(folder)  # who lifts it may have been killed in the middle
            return
        if found != touched:
            touched, since = found, host.awake_seconds()
        if host.awake_seconds() - since > lifts_after:
            open_again(folder)
            return
        time.sleep(_LOOKS_EVERY)


def open_again(folder: Path) -> None:
    """Lift it, and do not give up: nobody else may be there to do it."""
    while True:
        try:
            lift(folder)
        except (OSError, MorpheusError) as error:
            print(error, flush=True)  # into the log of this program
            time.sleep(_LOOKS_EVERY)
        else:
            return


def lift(folder: Path) -> None:
    """Let programs in again at the server in *folder*, which is started when it does not run.

    Nothing happens where there is no fence, or where its server was stopped for good.
    """
    with contextlib.suppress(FileNotFoundError):
        (folder / ARMED).rename(folder / LIFTED)  # one of two that move it succeeds
    try:
        told: dict[str, Any] = json.loads((folder / LIFTED).read_text())
        usual, config = (folder / OPEN).read_bytes(), Path(told["config"])
    except FileNotFoundError:
        return
    if not config.exists() or config.read_bytes() != usual:  # what is right already needs no room on the disk
        replace_file(config, usual)
    if processes.find(folder, NATS):
        processes.reload(folder, NATS)
    else:
        processes.start(folder, Program(NATS, tuple(told["argv"]), ports=tuple(told["ports"])))
    (folder / LIFTED).unlink(missing_ok=True)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), float(sys.argv[2]))

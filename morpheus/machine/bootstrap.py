"""The operator's own script, run once as root on each new machine before anything starts there.

A machine on which it ran to its good end never runs it again. One that was cut off in the middle, by a lost
connection or a power cut, runs it from the beginning: so it has to be one that can be repeated.
"""

import contextlib
from pathlib import Path

from morpheus.errors import MachineError, MissingPartError
from morpheus.folders import placed
from morpheus.machine import Machine, places

SETTING = "integration.bootstrap_script"
TAIL = 1500  # bytes of what it said, for errors

# $1 script, $2 marker, $3 log: one at a time, for the one before may outlive its connection.
RUN = """
set -u
exec 9< "$1"
flock 9
[ ! -e "$2" ] || exit 0
umask 077
: > "$3"
umask 022
"$1" >> "$3" 2>&1 < /dev/null 9<&- || exit
: > "$2"
sync "$2"
"""


def read_script(path: Path | None) -> bytes | None:
    """The script that is to be run; None where none is.

    Raises:
        MissingPartError: it cannot be read, or is empty.
    """
    if path is None:
        return None
    try:
        script = placed(str(path), SETTING).read_bytes()
    except OSError as error:
        raise MissingPartError(f"{SETTING}: {path} cannot be read: {error.strerror or error}.") from error
    if not script.strip():
        raise MissingPartError(f"{SETTING}: {path} is empty.")
    return script


def run_once(machine: Machine, script: bytes, *, timeout: float) -> bool:
    """Run *script* on *machine* unless it ran there to its good end already; whether it was run.

    Raises:
        MachineError: it fails, or does not end within *timeout* seconds; with the end of what it said.
    """
    if machine.read(places.BOOTSTRAPPED) is not None:
        return False
    machine.put(places.BOOTSTRAP, script, mode=0o700)
    where = (places.BOOTSTRAP, places.BOOTSTRAPPED, places.BOOTSTRAP_LOG)
    try:
        machine.run("/bin/sh", "-c", RUN, "bootstrap", *where, timeout=timeout)
    except MachineError as error:
        said = "nothing"
        with contextlib.suppress(MachineError):
            said = machine.run("tail", "-c", str(TAIL), places.BOOTSTRAP_LOG).strip() or said
        raise MachineError(
            f"{SETTING} failed on {machine.name}: {error} What it said last ({places.BOOTSTRAP_LOG}):\n{said}"
        ) from error
    return True

"""What stands by while streams move, and goes on when the run that moves them does not.

flows/_standby.py starts it with the name of the forest and the slugs of that run. Each try is this program
once more, with a Prefect server of its own where that of the run does not help: what spoilt one try spoils no
other.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from flows._standby import ENDED, MODULE, STOOD_BY, forget, log_of

AGAIN, UNTIL = 5.0, 900.0  # seconds between tries, and for all of them
SERVER = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING")


def wait(*words: str) -> int:
    """Wait for the end of the run, then try until nothing is left to do; the exit code."""
    if sys.stdin.buffer.read().endswith(ENDED):
        return 0
    until, path = time.monotonic() + UNTIL, log_of(words[0])
    with contextlib.ExitStack() as stack:
        out: int = subprocess.DEVNULL
        with contextlib.suppress(OSError):  # what it says matters less than what it does
            path.parent.mkdir(mode=0o700, exist_ok=True)
            out = stack.enter_context(path.open("ab")).fileno()
        for environment in itertools.cycle(_environments(path.parents[1])):
            if _ends_well(words, environment, out, max(1.0, until - time.monotonic())):
                break
            if time.monotonic() > until:
                if out != subprocess.DEVNULL:
                    os.write(out, f"Given up: run morpheus grow {words[0]}.\n".encode())
                return 1
            time.sleep(AGAIN)
    forget(words[0])
    return 0


def _ends_well(words: tuple[str, ...], environment: dict[str, str], out: int, timeout: float) -> bool:
    """Whether a try leaves nothing to do."""
    command = [sys.executable, "-P", "-m", MODULE, "try", *words]
    try:
        subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=timeout,
            check=True,
        )
    except subprocess.SubprocessError:
        return False
    return True


def _environments(data: Path) -> list[dict[str, str]]:
    """The one of the run, unless its Prefect server went with it, and one without a server."""
    run = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT__")} | {
        STOOD_BY: "1"
    }
    alone = {key: value for key, value in run.items() if key not in SERVER}
    return [alone] if _is_temporary(run, data) else [run, alone]


def _is_temporary(environment: dict[str, str], data: Path) -> bool:
    return Path(environment.get("PREFECT_HOME", "")).parent == data


def go_on(name: str, cloud: str, registry: str, key: str) -> int:
    """Finish the move or undo it; the exit code."""
    from morpheus.cli import running  # noqa: PLC0415  # what only waits need not import it
    from morpheus.errors import MorpheusError  # noqa: PLC0415

    try:
        running.go_on(name, cloud, registry, key)
    except MorpheusError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    sys.exit(wait(*words) if role == "wait" else go_on(*words))

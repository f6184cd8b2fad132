"""What stands by while streams move, and goes on when the run that moves them is killed.

flows/_standby.py starts it with the name of the forest and the slugs of that run. Nothing is imported before
it is needed, for it seldom is.
"""

import os
import sys

AGAIN, UNTIL = 5.0, 900.0  # seconds between tries, and for all of them


def go_on(name: str, cloud: str, registry: str, key: str) -> None:
    """Finish the move or undo it, and try until that is done.

    Raises:
        NotReadyError: it kept failing; says why.
    """
    import logging  # noqa: PLC0415

    from flows._standby import log_of  # noqa: PLC0415
    from morpheus.cli import running, temporary  # noqa: PLC0415
    from morpheus.wait import wait_until  # noqa: PLC0415

    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("morpheus").setLevel(logging.INFO)
    temporary.forget()

    def fault() -> str:
        try:
            running.go_on(name, cloud, registry, key)
        except Exception as error:  # noqa: BLE001  # whatever it is, programs may be waiting
            return str(error) or repr(error)
        return ""

    what = f"the move of the streams of {name} to be finished or undone"
    wait_until(what, fault, lambda text: not text, str, timeout=UNTIL, interval=AGAIN)
    log_of(name).unlink(missing_ok=True)


if __name__ == "__main__" and not sys.stdin.buffer.read():  # it ended without a word
    for variable in [each for each in os.environ if each.startswith("PREFECT__")]:
        del os.environ[variable]  # they name the run that was killed
    go_on(*sys.argv[1:])

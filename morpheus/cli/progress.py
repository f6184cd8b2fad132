"""What the user sees while something runs: on a terminal one line that moves, elsewhere plain lines."""

import contextlib
import logging
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status

WAITING = "morpheus.wait"


class Lines(logging.Handler):
    """Shows the log of the domain on stderr; what is awaited replaces itself on a terminal."""

    def __init__(self, console: Console, status: Status | None) -> None:
        super().__init__(logging.INFO)
        self._console, self._status = console, status

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self._status and record.name == WAITING:
            self._status.update(text)
        else:
            style = "yellow" if record.levelno >= logging.WARNING else "dim"
            self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def shown(what: str) -> Iterator[None]:
    """Show what the domain logs while the block runs, beginning with *what* is done."""
    console = Console(stderr=True)
    logger = logging.getLogger("morpheus")
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(console.status(what)) if console.is_terminal else None
        if status is None:
            console.print(what, highlight=False, markup=False, soft_wrap=True)
        handler = Lines(console, status)
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # Prefect would print every line once more
        yield

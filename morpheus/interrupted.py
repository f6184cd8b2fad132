"""What an interruption leaves: the code that it hits notes that on it, and the command line tells it."""

import contextlib
from collections.abc import Iterator

NOTHING = "Nothing was changed."
GO_ON = "run morpheus init again: it goes on with it."


@contextlib.contextmanager
def leaves(sentence: str) -> Iterator[None]:
    """Say by *sentence* what there is when Ctrl-C or SIGTERM ends the block; the innermost one counts."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and not hasattr(error, "__notes__"):
            error.add_note(sentence)
        raise


def left(error: BaseException | None) -> str | None:
    """What was noted on *error*, or on what it came of."""
    while error:
        if notes := getattr(error, "__notes__", None):
            return str(notes[0])
        error = error.__cause__ or error.__context__
    return None

"""Questions to a person at a terminal; they go to stderr, so that stdout holds results alone."""

import getpass
import sys
from collections.abc import Collection

from morpheus.errors import InvalidInputError


def somebody_is_here() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def tell(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def answer(question: str, allowed: Collection[str] = ()) -> str:
    """What is typed, asked for again until it is one of those *allowed*, if any are named.

    Raises:
        InvalidInputError: nobody is here.
    """
    if not somebody_is_here():
        raise InvalidInputError(f"Nobody is here to answer: {question.rstrip(': ')}")
    while True:
        print(question, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise InvalidInputError("Nothing was answered, and nothing was changed.")
        if not allowed or line.strip() in allowed:
            return line.strip()


def agreed(question: str) -> bool:
    """Whether a person says yes; anything else, and silence, is no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def secret(what: str) -> str:
    """What is typed and not shown; without a terminal all that is piped."""
    return getpass.getpass(f"{what} (not shown): ") if sys.stdin.isatty() else sys.stdin.read()

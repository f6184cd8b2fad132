"""The forms everything is printed in: lines, tables, JSON; nothing printed can steer the terminal."""

import contextlib
import json as jsonlib
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from morpheus.errors import InvalidInputError
from morpheus.forest import Price

UNKNOWN = "-"


def printable(text: str) -> str:
    """*text* in one line, with what could steer the terminal or has no form on it as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def lines(*texts: str) -> str:
    """One line of each; anybody may have written the names and words in them."""
    return "\n".join(map(printable, texts))


def line_of(node: str, text: str, *, complains: bool = False) -> None:
    """One line that *node* printed or complained; columns in it stay columns."""
    safe = "\t".join(map(printable, text.rstrip("\r").split("\t")))
    print(f"{printable(node)} | {safe}", file=sys.stderr if complains else sys.stdout, flush=True)


def say(*texts: str) -> None:
    print(lines(*texts))


def warning(text: str | None) -> None:
    """What a person should know before, where there is anything; stdout is left to the result."""
    if text:
        print(lines(text), file=sys.stderr)


def as_json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=2))


def table(*rows: Sequence[str]) -> list[str]:
    """*rows* in columns, the headings first; to import rich would take a fifth of a fast command's time."""
    cells = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    filled = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in cells)
    return ["", *(f"  {line.rstrip()}" for line in filled), ""]


def me() -> str:
    """How this command is called from here: by its name when that finds it, else by its path."""
    mine = Path(sys.argv[0])
    found = shutil.which("morpheus")
    if mine.name != "morpheus" or (found and Path(found).samefile(mine)):
        return "morpheus"
    with contextlib.suppress(ValueError, OSError):  # it is elsewhere, or the current folder is gone
        return str(mine.absolute().relative_to(Path.cwd()))
    return str(mine)


def moment(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z") if time else None


def money(price: Price) -> dict[str, float] | None:
    """In EUR, VAT included; None where nothing is paid."""
    return {"hourly": float(price.hourly), "monthly": float(price.monthly)} if price.monthly else None


def cost(price: Price, what: str = "Costs") -> list[str]:
    """A line about money where some is paid."""
    return [f"{what}: {price}, VAT included"] if price.monthly else []


def confirm(told: Sequence[str], question: str, names: Sequence[str], again: str) -> None:
    """Show what would be lost for good, and have one of *names* typed before.

    Raises:
        InvalidInputError: it was not typed, or nobody is there to type, who is told to run *again*.
    """
    if not sys.stdin.isatty():
        raise InvalidInputError(f"Nobody is here to confirm it: {again}")
    print(lines(*told), file=sys.stderr)  # what is printed for scripts stays whole
    try:
        typed = input(question)
    except EOFError:
        typed = ""
    if typed.strip() not in names:
        raise InvalidInputError(f"That was not {names[0]}: nothing was changed.")


def sentence(text: str, *, json: bool) -> None:
    """What was done."""
    if json:
        as_json({"done": text})
    else:
        say(text)


def document(text: str) -> None:
    """The registry as it stands; on a terminal nothing in it can steer that."""
    print("\n".join(map(printable, text.splitlines())) if sys.stdout.isatty() else text.rstrip("\n"))

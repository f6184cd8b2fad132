"""From errors to one clear sentence and an exit code; never a traceback for a mistake of user or world."""

import contextlib
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import typer
from typer.core import TyperGroup

from morpheus.cli.show import printable
from morpheus.errors import MorpheusError

INTERNAL = 70
INTERRUPTED = 130
TERMINATED = 143


class TerminatedError(BaseException):
    """The process was told to end (SIGTERM)."""


def terminate(_number: int, _frame: object) -> None:
    """End the command in order; while a flow runs, Prefect does so first and then sends the signal again."""
    raise TerminatedError


class Commands(TyperGroup):
    """The group of all commands; every error leaves through here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MorpheusError as error:
            _say(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            _say("Interrupted. What was begun is undone or recorded: see morpheus list.")
            raise typer.Exit(INTERRUPTED) from error
        except TerminatedError as error:
            _say("Terminated. What was begun is undone or recorded: see morpheus list.")
            raise typer.Exit(TERMINATED) from error
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
            raise typer.Exit(1) from error
        except Exception as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise
            where = _write_down(error)
            _say(
                f"This is a fault of Morpheus ({type(error).__name__}: {error}); the details are in {where}."
            )
            raise typer.Exit(INTERNAL) from error


def _say(sentence: str) -> None:
    lines = map(printable, f"morpheus: {sentence}".split("\n"))
    print(*lines, sep="\n", file=sys.stderr)


def _write_down(error: Exception) -> str:
    from morpheus import settings  # noqa: PLC0415  # only for the rare fault

    text = f"{datetime.now(UTC).isoformat()}\n{''.join(traceback.format_exception(error))}\n"
    with contextlib.suppress(OSError):
        path = settings.data_dir() / "faults.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(text)
        return str(path)
    return text

"""From errors to one clear sentence and an exit code; never a traceback for a mistake of user or world."""

import contextlib
import errno
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from typing import Any

import typer
from typer.core import TyperGroup

from morpheus import interrupted
from morpheus.cli import signals
from morpheus.cli.show import printable
from morpheus.errors import MorpheusError

INTERNAL = 70
INTERRUPTED = 130
TERMINATED = 143

WORDS = {INTERRUPTED: "Interrupted", TERMINATED: "Terminated"}
RECORDED = "What was begun is undone or recorded: see morpheus list."
OUTPUT_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Commands(TyperGroup):
    """The group of all commands; every error leaves through here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with signals.as_errors():
                return super().invoke(ctx)
        except MorpheusError as error:
            _say(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            raise _ended(INTERRUPTED, error) from error
        except signals.TerminatedError as error:
            raise _ended(TERMINATED, error) from error
        except BrokenPipeError as error:
            _nobody_reads()
            raise typer.Exit(0) from error  # as much was written as anybody wanted to read
        except Exception as error:
            if type(error).__module__.startswith(("typer", "click")):
                if isinstance(said := getattr(error, "message", None), str):
                    error.message = said.replace("Value error, ", "")  # type: ignore[attr-defined]  # pydantic's
                raise
            if code := _signalled(error):  # a second signal hit what cleaned up after the first
                raise _ended(code, error) from error
            if isinstance(error, OSError) and error.errno in OUTPUT_FAULTS:
                _say(f"The output cannot be written: {error.strerror}.")
                raise typer.Exit(1) from error
            _say(f"This is a fault of Morpheus ({type(error).__name__}: {error}); {_written_down(error)}.")
            raise typer.Exit(INTERNAL) from error


def _say(sentence: str) -> None:
    lines = map(printable, f"morpheus: {sentence}".split("\n"))
    print(*lines, sep="\n", file=sys.stderr)


def _ended(code: int, error: BaseException) -> typer.Exit:
    """Say that a signal ended the command and what that leaves; more of them change nothing any more."""
    signals.ignore()
    _say(f"{WORDS[code]}. {interrupted.left(error) or RECORDED}")
    return typer.Exit(code)


def flush() -> None:
    """Write out what was printed, as long as somebody can be told when that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()
    except OSError as error:
        _nobody_reads()
        _say(f"The output cannot be written: {error.strerror}.")
        sys.exit(1)


def _nobody_reads() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _signalled(error: BaseException | None) -> int:
    """The code to end with when *error* came out of the handling of a signal; 0 when it did not."""
    while error:
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        prefects_own = type(error).__name__ == "TerminationSignal"
        if prefects_own or isinstance(error, signals.TerminatedError):
            return TERMINATED
        error = error.__cause__ or error.__context__
    return 0


def _written_down(error: Exception) -> str:
    """Write down all there is to know; where it stands, in words."""
    from morpheus import folders  # noqa: PLC0415  # only for the rare fault

    text = f"{datetime.now(UTC).isoformat()}\n{''.join(traceback.format_exception(error))}\n"
    with contextlib.suppress(OSError, RuntimeError):  # the latter is said of a home that nobody has
        path = folders.data_dir() / "faults.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(text)
        return f"the details are in {path}"
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(prefix="morpheus-fault-", suffix=".log")
        with os.fdopen(descriptor, "w") as log:
            log.write(text)
        return f"the details are in {name}"
    return "no place was found for the details: set TMPDIR to a folder you may write to"

"""A Prefect server for one command: behind a password of its own, and gone as soon as the command is.

The command keeps the one end of a pipe and the server, which is this module as a program, the other. When the
command ends, killed or not, the server reads the end of the pipe and ends at once: it holds nothing that
anybody needs later. It is in a session of its own, so that Ctrl-C reaches the command alone, which still
needs the server to take back what it began.
"""

import atexit
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import filelock

from morpheus.cli.cursors import close_with_connections
from morpheus.cli.server import START_TIMEOUT, wait_until_it_answers
from morpheus.errors import MachineError
from morpheus.files import make_folder
from morpheus.wait import wait_until


@dataclass(frozen=True, slots=True)
class Temporary:
    """A server that starts: where it will answer, and to whom."""

    port: int
    password: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    starting: filelock.BaseFileLock  # two that start at once would both make the tables of the database

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            NotReadyError: it ended, or does not answer in time; names its log.
        """
        wait_until_it_answers(self.api, lambda: self.process.poll() is None, self.folder / "server.out")
        self.starting.release()

    def client_environment(self) -> dict[str, str]:
        """The variables with which a Prefect client uses this server."""
        return {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": self.password,
        }


def start(folder: Path) -> Temporary:
    """Start the server, whose database and log are in *folder*; it answers some seconds later.

    Raises:
        NotReadyError: another one, of another command, takes too long to start.
    """
    make_folder(folder)
    starting = _alone(folder)
    password = f"morpheus:{secrets.token_urlsafe(24)}"
    env = {
        **os.environ,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",  # these two as Prefect starts its own
        "PREFECT__SERVER_FINAL": "1",
    }
    try:
        with socket.socket() as bound, (folder / "server.out").open("ab") as log:
            bound.bind(("127.0.0.1", 0))  # handed down, so that nobody can take the port in between
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(bound.fileno())],
                cwd=folder,  # ours may be gone
                env=env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[bound.fileno()],
                start_new_session=True,
            )
            port = int(bound.getsockname()[1])
    except OSError as error:
        raise MachineError(f"Cannot start Prefect's temporary server in {folder}: {error}.") from error
    atexit.register(_stop, process)  # before Prefect's own, which still send what is left: they run backwards
    return Temporary(port, password, folder, process, starting)


def _alone(folder: Path) -> filelock.BaseFileLock:
    """The lock of those that start a server in *folder*, taken; it falls with the command."""
    lock = filelock.FileLock(folder / ".start.lock")

    def taken() -> bool:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(blocking=False)
        return lock.is_locked

    wait_until(
        "the temporary server of another command",
        taken,
        bool,
        lambda _: f"it is starting in {folder}",
        timeout=START_TIMEOUT,
        interval=0.1,
    )
    return lock


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def _end_with_starter() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(0)


def _serve(descriptor: int) -> None:
    threading.Thread(target=_end_with_starter, daemon=True).start()
    close_with_connections()
    import uvicorn  # noqa: PLC0415  # only in the server

    config = uvicorn.Config(
        "prefect.server.api.server:create_app", factory=True, lifespan="on", log_level="error"
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

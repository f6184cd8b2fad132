"""Prefect in the background: a server on loopback behind a password, one worker, the deployments."""

import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from morpheus import folders
from morpheus.cli import cursors
from morpheus.errors import MachineError, MissingPartError, NotReadyError, RefusedError, UnreachableError
from morpheus.files import make_folder, replace_file
from morpheus.folders import check_here
from morpheus.interrupted import NOTHING, leaves
from morpheus.machine import Program, processes
from morpheus.machine.local import is_free
from morpheus.wait import wait_until

START_TIMEOUT = 120.0  # seconds; the first start makes the database
STOP_TIMEOUT = 30.0  # seconds
SERVER, WORKER, POOL = "server", "worker", "morpheus"
STOPPED = "What was begun is stopped again."
LEFT = "Some of Prefect may still run: stop it with morpheus down."
log = logging.getLogger("morpheus.server")

FIRST_PORT, PORTS = 4200, 200


@dataclass(frozen=True, slots=True)
class Up:
    """A Prefect server of this user: where it is, and where its password stands."""

    port: int
    folder: Path
    deployments: tuple[str, ...] = ()

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.ui}/api"

    @property
    def auth_file(self) -> Path:
        return self.folder / "auth"

    def client_environment(self) -> dict[str, str]:
        """The variables with which a Prefect client uses this server."""
        return {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": self.auth_file.read_text().strip(),
        }


def _folder() -> Path:
    return folders.data_dir() / "prefect"


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise MachineError(f"Cannot {what}: {where}{error.strerror or error}.") from error


def find() -> Up | None:
    """The server that :func:`up` started, if it runs and answers."""
    folder = _folder()
    try:
        port = int(json.loads((folder / "up.json").read_text())["port"])
    except (OSError, ValueError, KeyError):
        return None
    running = Up(port, folder)
    return running if processes.find(folder, SERVER) and _answers(running.api) else None


@_translated("start Prefect")
def up() -> Up:
    """Start what does not run yet; return when the deployments are there.

    When that fails, or is interrupted, what it started is stopped again.

    Raises:
        NotReadyError: the server does not answer in time, or the worker does not report; names the log.
        InvalidInputError: the current folder is closed to this user.
        MachineError: Prefect's folder is, or the deployments cannot be registered.
    """
    check_here()
    folder = _folder()
    running = find()
    new = [SERVER, WORKER] if running is None else [] if processes.find(folder, WORKER) else [WORKER]
    try:
        return _up(folder, running)
    except BaseException:
        log.info("stopping what was begun")
        with leaves(LEFT):
            _stop(folder, new)
        with leaves(STOPPED):
            raise


def _up(folder: Path, running: Up | None) -> Up:
    if running is None:  # whoever took its port meanwhile may have been told the old password
        processes.stop(folder, WORKER, timeout=STOP_TIMEOUT)
        (folder / "auth").unlink(missing_ok=True)
    _secret(folder / "auth", f"morpheus:{secrets.token_urlsafe(24)}")
    # Made here and kept outside the database, so that a copy of the database opens no block.
    _secret(folder / "encryption-key", urlsafe_b64encode(os.urandom(32)).decode())
    running = running or _start_server(folder)
    names = _register(running)
    env = {**os.environ, **running.client_environment(), **_worker_environment(folder)}
    command = ("worker", "start", "--pool", POOL, "--type", "process", "--name", "morpheus")
    process = processes.start(folder, Program(WORKER, (sys.executable, "-m", "prefect", *command), env))
    _wait_for_worker(running, process)
    return Up(running.port, folder, names)


def _stop(folder: Path, programs: Collection[str]) -> None:
    for each in (WORKER, SERVER):  # the worker first: it needs the server to say that it goes
        if each in programs:
            processes.stop(folder, each, timeout=STOP_TIMEOUT)
    if SERVER in programs:
        (folder / "up.json").unlink(missing_ok=True)


@_translated("stop Prefect")
def down(*, force: bool) -> bool:
    """Stop worker and server; whether there was anything to stop.

    Raises:
        RefusedError: flows are running, and *force* was not given.
        MachineError: its folder is closed to this user.
    """
    folder = _folder()
    with leaves(NOTHING):
        running = find()
        if running and not force and (names := _running_flows(running)):
            raise RefusedError(
                f"Running: {', '.join(names)}. Wait for them to end, or stop them too: morpheus down --force"
            )
    was_running = any(processes.find(folder, each) for each in (WORKER, SERVER))
    with leaves(LEFT):
        _stop(folder, (WORKER, SERVER))
    return was_running


def _secret(path: Path, fresh: str) -> None:
    """Keep *fresh* in *path*, for this user's eyes only, unless something stands there."""
    if not path.exists():
        make_folder(path.parent)
        try:
            replace_file(path, fresh.encode())
        except OSError as error:
            raise MachineError(f"Cannot write {path}: {error.strerror or error}.") from error


def _start_server(folder: Path) -> Up:
    """Start the server at the first free port, or at the next when another program was faster."""
    processes.stop(folder, SERVER)  # one that runs but does not answer
    for port in filter(is_free, range(FIRST_PORT, FIRST_PORT + PORTS)):
        starting = Up(port, folder)
        process = _serve(starting)
        try:
            wait_until_it_answers(starting.api, partial(processes.is_running, process), folder / "server.out")
        except NotReadyError:
            if is_free(port):
                raise
        if _listens(process, port):
            return starting
        processes.stop(folder, SERVER, timeout=STOP_TIMEOUT)
        log.info("another program took port %d first; trying the next", port)
    raise MissingPartError(f"No port is free from {FIRST_PORT} on for Prefect's server.")


def _serve(starting: Up) -> psutil.Process:
    folder = starting.folder
    replace_file(folder / "up.json", json.dumps({"port": starting.port}).encode())
    env = {
        **os.environ,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_AUTH_STRING": starting.auth_file.read_text().strip(),
        "PREFECT_SERVER_ENCRYPTION_KEY": (folder / "encryption-key").read_text().strip(),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, a slot that is held while the server restarts would be gone for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        env.pop(name, None)
    command = ("server", "start", "--host", "127.0.0.1", "--port", str(starting.port))
    program = Program(SERVER, (sys.executable, "-m", cursors.__name__, *command), env)
    return processes.start(folder, program)


def _listens(process: psutil.Process, port: int) -> bool:
    """Whether it is *process*, or a child of it, that has the port."""
    with contextlib.suppress(psutil.Error):
        return any(
            each.laddr.port == port
            for member in (process, *process.children(recursive=True))
            for each in member.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        )
    return False


def wait_until_it_answers(api: str, is_running: Callable[[], bool], log: Path) -> None:
    """Wait for a server that was just started.

    Raises:
        NotReadyError: it ended, or does not answer in time; names its log.
    """

    def state() -> str:
        if not is_running():
            raise NotReadyError(f"Prefect's server ended at once; see {log}.")
        return "it answers" if _answers(api) else "it does not answer yet"

    wait_until(
        f"Prefect's server at {api}",
        state,
        lambda seen: seen == "it answers",
        lambda seen: f"{seen}; its log is {log}",
        timeout=START_TIMEOUT,
        interval=0.1,
    )


def _wait_for_worker(running: Up, process: psutil.Process) -> None:
    """Wait until the worker has reported to the server: before, runs would wait for it without a word."""
    log = running.folder / f"{WORKER}.out"

    def reported() -> bool:
        if not processes.is_running(process):
            raise NotReadyError(f"Prefect's worker ended at once; see {log}.")
        workers = _asked(running, f"/work_pools/{POOL}/workers/filter", {})
        started = process.create_time()
        return any(
            datetime.fromisoformat(each["last_heartbeat_time"]).timestamp() > started for each in workers
        )

    wait_until(
        "Prefect's worker",
        reported,
        bool,
        lambda _: f"it has not reported to the server; its log is {log}",
        timeout=START_TIMEOUT,
        interval=0.2,
    )


def _worker_environment(folder: Path) -> dict[str, str]:
    """What makes flows of the worker see the same settings and data as this command.

    Prefect's workers make a folder of a fixed name in the one for temporary files, which another user of this
    machine may own already.
    """
    temporary = folder / "tmp"
    make_folder(temporary)
    path = folders.config_path()
    named = {"MORPHEUS_CONFIG": str(path.absolute())} if path else {}
    return {
        **named,
        "MORPHEUS_DATA_DIR": str(folders.data_dir()),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "TMPDIR": str(temporary),
    }


def _register(running: Up) -> tuple[str, ...]:
    """Register blocks, work pool, automations and deployments; their names."""
    done = subprocess.run(
        [sys.executable, "-m", "deployments"],
        env={**os.environ, **running.client_environment()},
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise MachineError(f"The deployments could not be registered: {done.stderr.strip()[-600:]}")
    return tuple(done.stdout.split())


def _answers(api: str) -> bool:
    import httpx  # noqa: PLC0415  # only for this

    try:
        return httpx.get(f"{api}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _running_flows(running: Up) -> list[str]:
    query = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
    try:
        return [run["name"] for run in _asked(running, "/flow_runs/filter", query)]
    except UnreachableError as error:
        raise MachineError(f"{error} To stop it nevertheless: morpheus down --force") from error


def _asked(running: Up, path: str, query: Mapping[str, Any]) -> Any:
    """The server's answer to a query.

    Raises:
        UnreachableError: there was none.
    """
    import httpx  # noqa: PLC0415  # only for this

    user, _, password = running.auth_file.read_text().strip().partition(":")
    url = f"{running.api}{path}"
    try:
        answer = httpx.post(url, json=query, auth=(user, password), timeout=90, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UnreachableError(f"Prefect's server at {url} gives no answer ({error}).") from error
    return answer.json()

"""Whole programs: the installed ``morpheus`` and ``prefect`` commands, with folders of their own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import filelock
import httpx
import psutil
import pytest

from deployments.register import root
from morpheus.forest import Forest
from morpheus.machine import NATS, WORKLOAD, processes
from morpheus.machine.binaries import this_platform
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.registry.local import LocalStore
from morpheus.wait import wait_until
from tests.terminal import Terminal

PROGRAM = Path(sys.executable).with_name("morpheus")
PATIENCE = 100  # seconds for a command, on a computer that is busy with others
SOON = timedelta(seconds=10)  # until which the server has made the runs of a schedule
HOURS_AGO = timedelta(hours=2)
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

Answer = TypeVar("Answer")

# A nats-server that takes its ports, or says as the real one does that it cannot, and never another word: no
# cluster of it gets ready.
STAND_IN = """#!{python} -S
import re, signal, socket, sys
if "--version" in sys.argv:
    sys.exit(print("nats-server: v9.9.9"))
files = [sys.argv[2], sys.argv[2].replace("nats.conf", "cluster.conf")]
lines = [line for file in files for line in open(file) if "listen:" in line or "http:" in line]
try:
    sockets = [socket.create_server(("127.0.0.1", int(re.search(r":(\\d+)\\"", line)[1]))) for line in lines]
except OSError:
    sys.exit("bind: address already in use")
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pause()
"""
REAL, NEVER_READY = "", "integration: {nats_version: 9.9.9}\nprovisioning: {readiness_timeout: 90}\n"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


@dataclass
class Home:
    """A user's folders and environment."""

    path: Path
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings(REAL)
        cache = self.data / "cache" / f"nats-server-9.9.9-{this_platform()}"
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(STAND_IN.format(python=sys.executable))
        cache.chmod(0o755)

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def registry(self) -> Registry:
        return Registry(LocalStore(self.data / "local.json"))

    @property
    def environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        return ours | {
            "HOME": str(self.path),
            "PATH": os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]]),  # so it is called by name
            "MORPHEUS_DATA_DIR": str(self.data),
            "MORPHEUS_CONFIG": str(self.path / "morpheus.yaml"),
            "PREFECT_HOME": str(self.path / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **self.more,
        }

    def settings(self, text: str) -> None:
        self.path.mkdir(exist_ok=True)
        (self.path / "morpheus.yaml").write_text(text)

    def morpheus(self, *arguments: str, **environment: str) -> Done:
        """Run the command to its end; no traceback reaches the user, whatever happens."""
        return ended(self.start(*arguments, **environment))

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return started([str(PROGRAM), *arguments], self.environment | environment, self.path)

    def at_terminal(self, *arguments: str) -> Terminal:
        return Terminal(*arguments, environment=self.environment, folder=self.path)

    def forest(self, name: str) -> Forest | None:
        return self.registry.find(name)

    def let_grow(self, name: str) -> None:
        """Have the cooldown of the forest be over, as if hours had passed."""

        def rested(document: Document, now: object) -> Document:
            forest = document.forests[name]
            assert forest.last_expansion
            return document.with_forest(replace(forest, last_expansion=forest.last_expansion - HOURS_AGO))

        self.registry.update(rested)

    def running(self, forest: str = "*") -> dict[int, Path]:
        """The folders of all programs of all nodes, by process id and whatever is recorded."""
        found = {}
        for process in psutil.process_iter():
            try:
                folder = Path(process.environ().get(processes.FOLDER_MARK, ""))
            except (psutil.Error, OSError):  # it has just ended
                continue
            if folder.match(f"{self.data}/forests/{forest}/*") and processes.is_running(process):
                found[process.pid] = folder
        return found

    def left(self, name: str) -> list[str]:
        """What there is of the forest *name*, in words; nothing when it never was or is gone."""
        folders = [str(path) for kind in ("forests", "access") for path in self.data.glob(f"{kind}/{name}/*")]
        programs = [f"a program of {folder}" for folder in self.running(name).values()]
        return [*folders, *programs, *(["its record"] if self.forest(name) else [])]

    def wait_nothing_left(self, name: str, timeout: float = PATIENCE) -> None:
        """Wait until nothing of the forest is left."""
        wait_until(f"{name} to be gone", lambda: self.left(name), lambda left: not left, str, timeout=timeout)

    def wait_until_verifying(
        self, name: str, nodes: int, plant: "subprocess.Popen[str] | None" = None
    ) -> None:
        """Wait until all programs of the forest run and its *plant* waits for them."""

        def started() -> list[Path]:
            return list(self.data.glob(f"forests/{name}/*/nats.process.json"))

        wait_until(
            f"{name} to be verified",
            of_running(plant, started) if plant else started,
            lambda seen: len(seen) == nodes,
            str,
            timeout=PATIENCE,
        )

    def raze(self) -> None:
        """Stop all programs of all nodes."""
        for folder in self.data.glob("forests/*/*-node-*"):
            for program in (WORKLOAD, NATS):
                processes.stop(folder, program)


def started(command: list[str], environment: Mapping[str, str], folder: Path) -> "subprocess.Popen[str]":
    """*command*, with the signals of a terminal: whoever runs the tests may have them ignored."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_default_signals,  # noqa: PLW1509  # no thread of ours is in there
    )


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def ended(process: "subprocess.Popen[str]", timeout: float = PATIENCE) -> Done:
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in out + err
    return Done(process.returncode, out, err)


def of_running(process: "subprocess.Popen[str]", ask: Callable[[], Answer]) -> Callable[[], Answer]:
    """*ask*, as long as *process* runs: who waits for what one of ours does learns of its end, and why."""

    def asked() -> Answer:
        if process.poll() is not None:
            raise AssertionError(f"It ended with {process.returncode} and said: {process.communicate()}")
        return ask()

    return asked


def is_free(lock: Path) -> bool:
    """Whether nobody holds this lock of the machine."""
    try:
        with filelock.FileLock(lock, timeout=0):
            return True
    except filelock.Timeout:
        return False


def begun(_: Home, plant: "subprocess.Popen[str]") -> None:
    """Wait for the first line, which says that Prefect is about to start."""
    assert plant.stderr is not None
    assert any(line.startswith("Starting ") for line in iter(plant.stderr.readline, ""))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Api:
    """A Prefect server, asked over HTTP."""

    url: str
    auth: tuple[str, str] | None = None

    def get(self, path: str) -> Any:
        return self._asked("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self._asked("POST", path, body)

    def patch(self, path: str, body: Any) -> None:
        self._asked("PATCH", path, body)

    def schedule_soon(self, deployment: str, every: float) -> None:
        """Let the schedule of the deployment begin in a moment, instead of at some minute of the hour."""
        found = self.get(f"/deployments/name/{deployment}")
        begin = datetime.now(UTC) + SOON
        self.patch(
            f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}",
            {"active": True, "schedule": {"interval": every, "anchor_date": begin.isoformat()}},
        )

    def _asked(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; as Prefect's own clients do, ask again while SQLite is busy."""
        answer = wait_until(
            f"an answer to {method} {path}",
            lambda: httpx.request(method, f"{self.url}{path}", json=body, auth=self.auth, timeout=90),
            lambda answer: answer.status_code != httpx.codes.SERVICE_UNAVAILABLE,
            str,
            timeout=PATIENCE,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def last_run(self, deployment: str) -> Any:
        """The newest run of the deployment."""
        flow, _, name = deployment.partition("/")
        query = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [name]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 1,
        }
        return self.post("/flow_runs/filter", query)[0]


@dataclass(frozen=True)
class Works:
    """What ``morpheus up`` made: a home whose Prefect server and worker run."""

    home: Home
    said: Done

    @property
    def folder(self) -> Path:
        return self.home.data / "prefect"

    @property
    def api(self) -> Api:
        user, _, password = (self.folder / "auth").read_text().strip().partition(":")
        return Api(self.said.json["api"], (user, password))

    @property
    def client(self) -> dict[str, str]:
        """What a Prefect client needs to know."""
        return {
            "PREFECT_API_URL": self.said.json["api"],
            "PREFECT_API_AUTH_STRING": (self.folder / "auth").read_text().strip(),
        }

    def prefect(self, *arguments: str) -> Done:
        """Run Prefect's own command as an operator does who has logged in."""
        command = [sys.executable, "-m", "prefect", *arguments]
        return ended(started(command, self.home.environment | self.client, root()))


@contextlib.contextmanager
def working(folder: Path, **environment: str) -> Iterator[Works]:
    """A home in *folder* whose Prefect server and worker run, with so much more in their *environment*."""
    home, others = Home(folder / "home", environment), folder / "others"
    others.mkdir(parents=True)
    (others / "runner_storage").touch()  # Prefect's folder for workers, as when another user owns it
    home.more["TMPDIR"] = str(others)
    try:
        up = home.morpheus("up", "--output", "json")
        assert up.code == 0, up.err
        yield Works(home, up)
    finally:
        for program in ("worker", "server"):
            processes.stop(home.data / "prefect", program)
        home.raze()


@pytest.fixture(scope="session")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """One Prefect server for all commands that need one, with a worker; to start one takes long.

    Whoever stops it leaves none for the tests that come later, in whatever order: they have one of their own.
    """
    with working(tmp_path_factory.mktemp("works")) as works:
        yield works


@pytest.fixture
def home(works: Works, tmp_path: Path) -> Iterator[Home]:
    """Folders of one test, and the server that all share."""
    home = Home(tmp_path / "home", works.client)
    yield home
    home.raze()
    shutil.rmtree(home.data)

"""Having a command that lets a forest of one grow killed, and going on with it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from flows._standby import STOOD_BY
from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus.errors import MorpheusError
from morpheus.migration import Phase
from tests.flows.homes import UNMOVED
from tests.flows.test_one_to_three import Here
from tests.servers.webdav import ROOT

MORPHEUS = str(Path(sys.executable).with_name("morpheus"))
MARGIN = 20.0  # seconds for a server to start, and for programs to come back, on a busy computer
PATIENCE = 120.0  # seconds for a command
CLOSE = "morpheus.machine.beside.local:LocalFence.close"
OPEN: dict[str, Phase] = {  # where it is killed, and the phase that is recorded then
    "flows._migration:raise_beside": Phase.PREPARED,
    "flows._migration:serve@2": Phase.PREPARED,
    "flows._migration:wait_ready": Phase.PREPARED,
    "flows._migration:note@1": Phase.PREPARED,
    "morpheus.machine.beside.local:LocalFence.arm": Phase.FENCED,
    "morpheus.machine.beside.local:_await_reload": Phase.FENCED,
    "flows._migration:bring_over": Phase.FENCED,
    "flows._migration:restore@2": Phase.FENCED,
    "flows._migration:check_restored": Phase.FENCED,
    "flows._migration:note@2": Phase.FENCED,
    CLOSE: Phase.RESTORED,
    f"{CLOSE},morpheus.machine.local:LocalMachine.stop!": Phase.RESTORED,
}


@contextlib.contextmanager
def planted(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Here]:
    """A forest of one, oak, of a user whose data are in *folder*, while the block runs."""
    patch.setenv("MORPHEUS_DATA_DIR", str(folder))
    patch.setenv("MORPHEUS_CONFIG", str(folder / "morpheus.yaml"))
    (folder / "morpheus.yaml").write_text(json.dumps({"growth": {**UNMOVED, "enabled": False}}))
    plant("oak", nodes=1, cloud="local")
    yield Here(folder)
    with contextlib.suppress(MorpheusError):
        teardown("oak", cloud="local")


def ended(*command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """The *command*, run to its end on the Prefect server of these tests."""
    server = {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_API_AUTH_STRING": str(PREFECT_API_AUTH_STRING.value()),
    }
    return subprocess.run(
        command,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != STOOD_BY} | server | more,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def kill_both_at(step: str, here: Here, phase: Phase) -> None:
    """Have a command let oak grow, and killed there with what stands by."""
    kill_at(step, "both")
    assert here.oak.migration
    assert here.oak.migration.phase == phase


def kill_at(step: str, who: str) -> None:
    words = "grow", "oak", "--nodes", "3", "--yes"
    done = ended(sys.executable, "-m", "tests.flows.killed", step, who, *words)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def run_again() -> None:
    done = ended(MORPHEUS, "grow", "oak", "--yes")
    assert done.returncode == 0, done.stderr


def check() -> None:
    """As a schedule does; that nobody is to grow forests unasked does not keep it from finishing."""
    assert grow_check("oak") == {"oak": "grew"}


EXCHANGE = "morpheus.machine.beside.local:LocalBeside.exchange"
CLOSED: dict[str, tuple[Phase, Callable[[], None]]] = {  # and who goes on
    "flows._migration:note@3": (Phase.RESTORED, check),
    "flows._migration:finish": (Phase.COMMITTED, run_again),
    "flows._migration:finish,flows._migration:serve@2": (Phase.COMMITTED, check),
    EXCHANGE: (Phase.COMMITTED, run_again),
    f"{EXCHANGE}!": (Phase.COMMITTED, check),
    "flows._migration:prove": (Phase.COMMITTED, run_again),
    "flows._migration:settled": (Phase.COMMITTED, check),
}

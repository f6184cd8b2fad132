"""The server of one command, where none runs."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from morpheus.migration import Phase
from morpheus.wait import wait_until
from tests.e2e.conftest import NEVER_READY, PATIENCE, Home, begun, ended
from tests.morpheus.program import Device

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def test_without_a_server_a_temporary_one_serves_and_ends_with_the_command(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.morpheus("plant", "local", "small", "--name", "elm").code == 0
    assert home.morpheus("status").code == 0
    home.raze()

    plant = home.start("plant", "local", "small", "--name", "fir")
    begun(home, plant)
    wait_until("the temporary server", lambda: psutil.Process(plant.pid).children(), bool, str, timeout=30)
    family = psutil.Process(plant.pid).children(recursive=True)
    plant.send_signal(signal.SIGINT)
    done = ended(plant, timeout=30)

    assert done.code == 130
    assert done.sentence.startswith("morpheus: Interrupted.")
    assert home.left("fir") == []
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_where_the_current_folder_is_gone_a_forest_is_planted_all_the_same(tmp_path: Path) -> None:
    home, here = Home(tmp_path / "home"), tmp_path / "here"
    here.mkdir()
    device = Device(home.path, here, {"MORPHEUS_CONFIG": str(home.path / "morpheus.yaml")})

    code, said = device.morpheus("plant", "local", "small", "--name", "elm", meanwhile=here.rmdir)
    home.raze()

    assert (code, "Traceback" in said) == (0, False), said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_move_of_streams_goes_on_without_its_command_and_its_server(number: int, tmp_path: Path) -> None:
    """Whether it is undone or finished, which depends on how far it has come, programs may write again."""
    home = Home(tmp_path / "home")
    home.settings("growth: {enabled: false}\n")

    def phase() -> str | None:
        forest = home.forest("oak")
        return forest.migration.phase if forest and forest.migration else None

    def count_once_ended_in(last: Phase, settled: str | None) -> int:
        growing = home.start("grow", "oak", "--nodes", "3", "--yes")
        wait_until("the move", phase, lambda seen: seen == last, str, timeout=PATIENCE)
        growing.send_signal(number)
        ended(growing)
        wait_until("the end of it", phase, lambda seen: seen == settled, str, timeout=PATIENCE)
        wait_until("its log to go", log.exists, lambda there: not there, str, timeout=30)
        return int(home.morpheus("status", "oak", "--output", "json").json["current"])

    log = home.data / "standby" / "oak.log"
    try:
        assert home.morpheus("plant", "local", "small", "--name", "oak").code == 0
        assert count_once_ended_in(Phase.FENCED, None) == 1
        assert count_once_ended_in(Phase.COMMITTED, Phase.KEPT) == 3
    finally:
        home.raze()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Home]:
    """A home without a server, in which no cluster gets ready."""
    home = Home(tmp_path / "home")
    home.settings(NEVER_READY)
    yield home
    home.raze()


def temporary_server(plant: "subprocess.Popen[str]") -> psutil.Process:
    children = psutil.Process(plant.pid).children()
    (server,) = [each for each in children if "PREFECT_SERVER_API_AUTH_STRING" in each.environ()]
    return server


def asked(server: psutil.Process, auth: tuple[str, str] | None) -> int:
    """The status of a question that only those who know the password may ask."""
    (port,) = [each.laddr.port for each in server.net_connections("inet") if each.status == "LISTEN"]
    return httpx.post(f"http://127.0.0.1:{port}/api/flows/filter", json={}, auth=auth, timeout=20).status_code


def test_the_temporary_server_is_for_its_command_alone_and_dies_with_it(alone: Home) -> None:
    plants = [alone.start("plant", "local", "small", "--name", name) for name in ("elm", "fir")]  # at once
    for name, plant in zip(("elm", "fir"), plants, strict=True):
        alone.wait_until_verifying(name, 1, plant)
    servers = [temporary_server(plant) for plant in plants]
    passwords = [server.environ()["PREFECT_SERVER_API_AUTH_STRING"] for server in servers]

    elm, fir = [(user, secret) for user, _, secret in (each.partition(":") for each in passwords)]
    assert [asked(servers[0], auth) for auth in (None, fir, elm)] == [401, 401, 200]

    plants[0].kill()
    plants[0].communicate(timeout=10)
    _, alive = psutil.wait_procs(servers[:1], timeout=10)  # the node, which outlives it, holds it no longer
    assert alive == []
    assert len(alone.running("elm")) == 1
    assert asked(servers[1], fir) == 200

    os.killpg(plants[1].pid, signal.SIGINT)  # as a terminal does: to all that are in its group
    done = ended(plants[1], timeout=40)
    assert (done.code, alone.left("fir")) == (130, [])
    assert not servers[1].is_running()


def test_a_temporary_server_that_cannot_start_is_one_sentence_that_names_its_log(alone: Home) -> None:
    database = alone.data / "prefect-temporary" / "prefect.db"
    database.mkdir(parents=True)

    done = alone.morpheus("plant", "local", "small", "--name", "elm")

    log = database.with_name("server.out")
    assert (done.code, str(log) in done.sentence) == (7, True)
    assert "unable to open database file" in log.read_text()
    assert alone.left("elm") == []


def test_a_prefect_server_that_keeps_silent_is_not_waited_for(alone: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        done = alone.morpheus("plant", "local", "small", "--name", "elm", PREFECT_API_URL=api)

    assert (done.code, f"{api} does not answer" in done.sentence) == (7, True)
    assert any(api in line for line in done.err.splitlines()[:-1])
    assert alone.left("elm") == []

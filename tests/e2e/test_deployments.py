"""Prefect as operators run it: server, worker, deployments, the schedule, and what goes wrong there."""

import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments import register
from morpheus.machine import processes
from morpheus.wait import wait_until
from tests.e2e.conftest import FINAL, NEVER_READY, PATIENCE, REAL, Api, Home, Works, working

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]  # each wait has a bound of its own
EVERY = 300.0  # seconds between two checks


@pytest.fixture(scope="module")
def api(works: Works) -> Api:
    """The server, to which the deployments were registered once more by hand; a scheduled run is near."""
    deployed = works.prefect("--no-prompt", "deploy", "--all")
    assert deployed.code == 0, deployed.err
    schedule = works.api.get("/deployments/name/grow-check/scheduled")["schedules"][0]
    assert (schedule["slug"], schedule["schedule"]["interval"]) == ("sweep", EVERY)
    works.api.schedule_soon("grow-check/scheduled", EVERY)
    return works.api


@pytest.fixture
def home(works: Works) -> Iterator[Home]:
    """The home of the worker, whose servers get ready unless the test says otherwise."""
    yield works.home
    works.home.settings(REAL)


@pytest.fixture(scope="module")
def early(api: Api) -> Mapping[str, str]:
    """Runs with no parameters at all, started together; their ids."""
    return {name: run(api, name) for name in ("plant/cloud", "teardown/forest", "grow-check/now")}


def run(api: Api, deployment: str, **parameters: Any) -> str:
    """Ask for a run, as the UI does; its id."""
    found = api.get(f"/deployments/name/{deployment}")
    created = api.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
    return str(created["id"])


def ended(api: Api, run: str) -> Any:
    """The state in which the run ends."""
    return wait_until(
        f"the end of the run {run}",
        lambda: api.get(f"/flow_runs/{run}")["state"],
        lambda state: state["type"] in FINAL,
        lambda state: f"{state['name']}: {state.get('message')}",
        timeout=PATIENCE,
        interval=0.2,
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_up_makes_all_deployments_and_once_more_is_fine(works: Works) -> None:
    server = processes.find(works.folder, "server")

    again = works.home.morpheus("up", "--output", "json")

    assert (again.code, again.json) == (0, works.said.json)
    assert again.json["deployments"] == register.names()
    assert processes.find(works.folder, "server") == server


def test_a_worker_that_does_not_come_up_is_no_success(works: Works) -> None:
    """Its runs would wait for ever, without a word."""
    (works.folder / "tmp").rename(works.folder / "aside")
    (works.folder / "tmp").mkdir()
    (works.folder / "tmp" / "runner_storage").touch()
    processes.stop(works.folder, "worker")
    try:
        up = works.home.morpheus("up")
    finally:
        shutil.rmtree(works.folder / "tmp")
        (works.folder / "aside").rename(works.folder / "tmp")

    assert up.code == 7
    assert str(works.folder / "worker.out") in up.sentence
    assert works.home.morpheus("up").code == 0


def test_the_server_is_for_this_user_alone(works: Works) -> None:
    query = {"deployments": {"name": {"any_": ["local"]}}}
    assert httpx.post(f"{works.api.url}/deployments/filter", json=query).status_code == 401
    assert len(works.api.post("/deployments/filter", query)) == 1
    assert {mode(works.folder / name) for name in ("auth", "encryption-key")} == {0o600}

    server = processes.find(works.folder, "server")
    assert server is not None
    sockets = [each for one in family(server) for each in one.net_connections("inet")]
    assert {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


@pytest.mark.usefixtures("early")
def test_plant_local_by_command_and_the_cluster_answers(works: Works) -> None:
    done = works.prefect(
        *("deployment", "run", "plant/local", "--param", "name=oak", "--param", "size=medium", "--watch")
    )

    assert done.code == 0
    status = works.home.morpheus("status", "oak", "--output", "json")
    assert (status.code, status.json["current"]) == (0, 3)


def test_a_run_that_fails_says_so_to_the_command_and_why_in_its_state(works: Works, api: Api) -> None:
    before = works.home.registry.read().bare()

    done = works.prefect(
        *("deployment", "run", "plant/local", "--param", "name=oak", "--param", "size=small", "--watch")
    )

    assert done.code == 1
    assert "morpheus grow oak" in api.last_run("plant/local")["state"]["message"]
    assert works.home.registry.read().bare() == before


def test_a_form_filled_in_wrongly_is_refused_before_any_run(works: Works) -> None:
    done = works.prefect("deployment", "run", "plant/local", "--param", "nodes=101")

    assert done.code == 1
    assert "101 is greater than the maximum of 100" in " ".join((done.out + done.err).split())


def test_plant_cloud_without_any_parameter_says_what_is_missing(early: Mapping[str, str], api: Api) -> None:
    state = ended(api, early["plant/cloud"])

    assert state["type"] == "FAILED"
    assert "There is no API token: set HETZNER_API_TOKEN" in state["message"]


def test_without_any_parameter_teardown_asks_for_a_name_and_grow_check_looks(
    early: Mapping[str, str], api: Api
) -> None:
    state = ended(api, early["teardown/forest"])

    assert state["type"] == "FAILED"
    assert "teardown needs the name of a forest." in state["message"]
    assert ended(api, early["grow-check/now"])["type"] == "COMPLETED"


def cancelled(api: Api, run: str, home: Home) -> str:
    """As the button in the UI does."""
    api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    return "CANCELLED"


def killed(api: Api, run: str, home: Home) -> str:
    """As the kernel does that runs out of memory."""
    forest = home.forest("fir")
    assert forest is not None
    assert forest.lease is not None
    assert forest.lease.run == run
    psutil.Process(forest.lease.process["pid"]).kill()
    return "CRASHED"


@pytest.mark.parametrize("end", [cancelled, killed])
def test_a_run_that_is_ended_from_outside_leaves_nothing(
    home: Home, api: Api, end: Callable[[Api, str, Home], str]
) -> None:
    home.settings(NEVER_READY)
    others = set(home.running())
    planting = run(api, "plant/local", name="fir", size="medium")
    home.wait_until_verifying("fir", 3)

    wanted = end(api, planting, home)

    assert ended(api, planting)["type"] == wanted
    home.wait_nothing_left("fir")
    assert set(home.running()) == others


def test_the_schedule_really_fires(api: Api) -> None:
    """With SQLAlchemy 2.1 the server looks well, and its scheduler never makes a run: see pyproject.toml."""
    query = {
        "deployments": {"name": {"any_": ["scheduled"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    done = wait_until(
        "a scheduled run to complete",
        lambda: api.post("/flow_runs/filter", query),
        bool,
        str,
        timeout=PATIENCE,
        interval=0.5,
    )

    assert all(each["auto_scheduled"] for each in done)


def test_teardown_by_deployment_leaves_nothing(home: Home, api: Api) -> None:
    assert ended(api, run(api, "teardown/forest", name="oak"))["type"] == "COMPLETED"

    assert home.left("oak") == []


def test_commands_use_the_server_that_up_started(home: Home, api: Api) -> None:
    planted = home.morpheus("plant", "local", "small", "--name", "ash")

    assert (planted.code, "on the Prefect server" in planted.err) == (0, True)
    assert len(api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["plant-ash"]}}})) == 1


def test_down_asks_before_it_stops_a_run_and_leaves_forests_alone(tmp_path: Path) -> None:
    with working(tmp_path) as works:
        home, server = works.home, processes.find(works.folder, "server")
        assert server is not None
        programs = family(server)
        home.more |= works.client
        planted = home.morpheus("plant", "local", "small", "--name", "ash")
        assert planted.code == 0, planted.err
        home.settings(NEVER_READY)
        run(works.api, "plant/local", name="yew", size="small")
        home.wait_until_verifying("yew", 1)

        busy = home.morpheus("down")
        assert (busy.code, "plant-yew" in busy.sentence) == (5, True)

        assert home.morpheus("down", "--force").out == "Prefect is stopped; forests stay as they are.\n"
        assert [each for each in programs if processes.is_running(each)] == []
        assert "its record" in home.left("yew")  # its run ended with the worker: not undone, nor forgotten
        assert home.morpheus("down").out == "Nothing was running.\n"
        assert home.morpheus("status", "ash").code == 0

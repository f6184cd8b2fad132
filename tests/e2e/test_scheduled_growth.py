"""A schedule, a worker and a forest that fills up: it grows by itself, and once."""

from collections.abc import Iterator
from typing import Any

import pytest

from morpheus.forest import Forest, Status
from morpheus.machine import Program, processes
from morpheus.nats.config import client_url
from morpheus.wait import wait_until
from tests.e2e.conftest import FINAL, PATIENCE, Works, working
from tests.growth.load import fill

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]  # each wait has a bound of its own

# The load of this computer makes no forest grow; what streams hold does.
SETTINGS = """
integration: {jetstream_file: 64MB}
growth: {threshold_cpu: 100, threshold_memory: 100, threshold_storage: 80, cooldown_minutes: 60}
"""
HELD = 58 * 2**20  # bytes
SWEEP = "grow-check/scheduled"
HASTE = {  # of Prefect's server: it makes the runs of schedules, and says that one is late, within seconds
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "3",
}
GREW, RESTS = ("grow", None), ("may-not", "cooldown")  # verdicts, and what stands in the way


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """A worker, and the forest oak of three, on one node of which streams hold more than they should."""
    with working(tmp_path_factory.mktemp("scheduled"), **HASTE) as works:
        works.home.settings(SETTINGS)
        works.home.more |= works.client
        planted = works.home.morpheus("plant", "local", "medium", "--name", "oak")
        assert planted.code == 0, planted.err
        fill([client_url(node) for node in oak(works).staying], HELD, storage="file")
        yield works


def oak(works: Works) -> Forest:
    forest = works.home.forest("oak")
    assert forest
    return forest


def verdicts(works: Works) -> list[tuple[str, str | None]]:
    """What every check came to, oldest first, and what stands in the way."""
    wanted = {"filter": {"resource": {"id": ["morpheus.forest.oak"]}, "order": "ASC"}, "limit": 50}
    events = works.api.post("/events/filter", wanted)["events"]
    return [(each["event"].removeprefix("morpheus.growth."), each["payload"]["why"]) for each in events]


def wait_judged(works: Works, number: int) -> list[tuple[str, str | None]]:
    """Wait until so many checks were made; their verdicts."""
    return wait_until(
        f"{number} verdicts",
        lambda: verdicts(works),
        lambda seen: len(seen) >= number,
        str,
        timeout=2 * PATIENCE,
        interval=0.2,
    )


def runs(works: Works, **state: Any) -> list[Any]:
    query = {"deployments": {"name": {"any_": ["scheduled"]}}, "flow_runs": {"state": state}}
    found: list[Any] = works.api.post("/flow_runs/filter", query)
    return found


def is_whole(works: Works, nodes: int) -> bool:
    forest = oak(works)
    assert forest.used_numbers == tuple(range(1, nodes + 1))
    assert (forest.status, len(forest.nodes)) == (Status.ACTIVE, nodes)
    return len(works.home.running("oak")) == nodes


def test_a_forest_that_fills_up_grows_by_itself_once_and_rests(works: Works) -> None:
    works.api.schedule_soon(SWEEP, every=30)

    assert wait_judged(works, 2) == [GREW, RESTS]

    assert is_whole(works, 4)
    assert all(each["auto_scheduled"] for each in runs(works, type={"any_": ["COMPLETED"]}))


def test_runs_that_piled_up_while_the_worker_was_away_let_it_grow_once(works: Works) -> None:
    wait_judged(works, 2)
    wait_idle(works)
    worker = stopped_worker(works)
    works.home.let_grow("oak")
    works.api.schedule_soon(SWEEP, every=5)
    late = wait_until(
        "late runs",
        lambda: [each["id"] for each in runs(works, name={"any_": ["Late"]})],
        lambda seen: len(seen) >= 3,
        str,
        timeout=PATIENCE,
        interval=0.2,
    )
    assert is_whole(works, 4)

    processes.start(works.folder, worker)

    wait_until(
        "the late runs to end",
        lambda: {each["id"]: each["state"]["name"] for each in runs(works, type={"any_": [*FINAL]})},
        lambda seen: seen.keys() >= {*late},
        str,
        timeout=PATIENCE,
        interval=0.2,
    )
    told = wait_judged(works, 4)
    assert told[:3] == [GREW, RESTS, GREW]
    assert {*told[3:]} == {RESTS}
    assert is_whole(works, 5)


def wait_idle(works: Works) -> None:
    """Wait until no check is under way."""
    wait_until(
        "no check to be under way",
        lambda: runs(works, type={"any_": ["PENDING", "RUNNING"]}),
        lambda seen: not seen,
        str,
        timeout=PATIENCE,
        interval=0.2,
    )


def stopped_worker(works: Works) -> Program:
    """Stop the worker, and tell how it is started again; up would register the schedule anew as well."""
    process = processes.find(works.folder, "worker")
    assert process
    program = Program("worker", tuple(process.cmdline()), process.environ())
    processes.stop(works.folder, "worker")
    return program

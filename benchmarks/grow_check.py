"""One check over many monitored nodes: how long it takes beside what it has to wait for, and what memory.

The nodes' monitoring ports are real HTTP servers in processes of their own, which answer what a real
nats-server answered; one of a hundred accepts connections and never says a word. Forests have at most a
hundred nodes, ten of them are checked at once, as the flow does it: measured, judged, the reading kept. Each
size is measured in a process of its own. What has to be waited for is the window of some seconds, in which
the bound of those that do not answer passes as well.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.result import Result
from morpheus import checkup, folders, site, vitals
from morpheus.cloud import Server
from morpheus.cloud.local import LocalCloud
from morpheus.forest import Forest, Node, Status
from morpheus.growth import Outcome, Policy
from morpheus.machine import StoreState
from morpheus.machine.local import LocalMachine
from morpheus.settings import Settings
from morpheus.site import Found
from morpheus.trend import FULL, Kind
from tests.nats.grove import Grove

SIZES = (10, 100, 1000)
LARGEST = 100  # nodes of a forest
PROCESSES = 4
SILENT = 100  # one of so many never answers
GOAL = 3.0  # seconds for a thousand

Documents = Mapping[str, Any]


def run() -> Result:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        recorded = _recorded(Path(folder, "recorded"))
        figures["idle_mb"] = _apart(0, recorded, Path(folder))[1]
        for size in SIZES:
            seconds, megabytes = _apart(size, recorded, Path(folder))
            beside = seconds - vitals.WINDOW
            figures |= {
                f"check_{size}_seconds": seconds,
                f"check_{size}_beside_window": beside,
                f"check_{size}_mb": megabytes,
            }
    return Result("grow_check", figures, {f"check_{SIZES[-1]}_beside_window": GOAL})


def _recorded(folder: Path) -> Documents:
    """What a real server answers."""
    grove = Grove(folder, 1)
    try:
        grove.start()
        grove.wait_formed()
        return {path: grove.ask(grove.names[0], f"/{path}") for path in ("varz", "jsz", "healthz")}
    finally:
        grove.close()


def _apart(size: int, recorded: Documents, folder: Path) -> tuple[float, float]:
    """Seconds and megabytes of a check of *size* nodes, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(_check, (size, recorded, str(folder / str(size))))


def _check(size: int, recorded: Documents, folder: str) -> tuple[float, float]:
    os.environ |= {"MORPHEUS_DATA_DIR": folder, "MORPHEUS_CONFIG": "/dev/null"}
    names = [_names(k, min(LARGEST, size - k)) for k in range(0, size, LARGEST)]
    with _monitors([each for forest in names for each in _answers(forest, size, recorded)]) as ports:
        at = iter(ports)
        forests = [_forest(forest, at) for forest in names]
        for forest in forests:  # whose disk is measured
            Path(folder, "forests", forest.name, forest.nodes[0].name, "store").mkdir(parents=True)
        registry = site.local_registry()
        for forest in forests:
            registry.update(lambda document, _, forest=forest: document.with_forest(forest))  # type: ignore[misc]
        found = [Found(forest, registry, "") for forest in forests]
        began = time.monotonic()
        with ThreadPoolExecutor(checkup.AT_ONCE) as pool:
            outcomes = list(pool.map(_one, found))
        seconds = time.monotonic() - began
    expected = [Outcome.UNHEALTHY, *[Outcome.NOTHING] * len(forests)][: len(forests)]
    assert outcomes == expected, f"the checks said {outcomes}"
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _one(found: Found) -> Outcome:
    policy = Policy(thresholds=dict.fromkeys(Kind, FULL))  # what this computer does is not the point
    checked = checkup.check(Settings(), found, _Cloud(folders.data_dir()), policy=policy, keep=True)
    return checked.verdict.outcome


class _Machine(LocalMachine):
    """A machine on which nothing is looked for but its monitoring port."""

    def pid(self, name: str) -> int | None:
        del name
        return None


class _Cloud(LocalCloud):
    """Machines of which nothing is here but the monitoring ports."""

    def machine(self, server: Server) -> LocalMachine:
        return _Machine(server.name, super().machine(server).folder)

    def store(self, server: Server) -> StoreState:
        del server
        return StoreState.HELD


def _names(first: int, count: int) -> list[str]:
    return [f"f{first // LARGEST}-node-{k}" for k in range(1, count + 1)]


def _answers(names: Sequence[str], size: int, recorded: Documents) -> Iterator[Documents | None]:
    """What the nodes of one forest answer; the silent ones are the last of the first forest."""
    silent = max(1, size // SILENT) if names[0].startswith("f0-") else 0
    peers = [{"name": name, "current": True, "active": 10_000_000, "peer": "x"} for name in names[1:]]
    group = {"name": "f", "leader": names[0], "cluster_size": len(names), "replicas": peers}
    for k, name in enumerate(names):
        answers = {
            **recorded,
            "varz": {**recorded["varz"], "server_name": name},
            "jsz": {**recorded["jsz"], "meta_cluster": group},
        }
        yield None if k >= len(names) - silent else answers


def _forest(names: Sequence[str], ports: Iterator[int]) -> Forest:
    nodes = (
        Node(name, "127.0.0.1", Status.ACTIVE, metadata={"monitor_port": str(next(ports))}) for name in names
    )
    return Forest(names[0].partition("-")[0], "local", status=Status.ACTIVE, nodes=tuple(nodes))


@contextlib.contextmanager
def _monitors(answers: Sequence[Documents | None]) -> Iterator[list[int]]:
    """Processes that serve *answers*; yields the ports in their order."""
    share = -(-len(answers) // PROCESSES) or 1
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for k in range(0, len(answers), share):
            argv = [sys.executable, "-m", "benchmarks.monitors"]
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(answers[k : k + share]).encode() + b"\n")
            process.stdin.flush()
            ports += json.loads(process.stdout.readline())
        yield ports

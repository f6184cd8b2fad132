"""One check over many monitored nodes: how long it takes beside what it has to wait for, and what memory.

The nodes' monitoring ports are real HTTP servers in processes of their own, which answer what a real
nats-server answered; one of a hundred accepts connections and never says a word. Forests have at most a
hundred nodes, ten of them are checked at once, as the flow does it: measured, judged, the reading kept. Each
size is measured in a process of its own. What has to be waited for is the window of some seconds, in which
the bound of those that do not answer passes as well.

Where OpenSSH's server is installed, one forest is checked through it as well: a server for each node, all of
which answer, entered anew; beside that the machines alone, each of which measures itself by one command.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.result import Result
from morpheus import checkup, folders, site, vitals, watch
from morpheus.cloud import Cloud, Server
from morpheus.cloud.local import LocalCloud
from morpheus.forest import Forest, Node, Status
from morpheus.growth import Outcome, Policy
from morpheus.machine import StoreState, gauges
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
SESSIONS = 50  # nodes that are entered by SSH

Documents = Mapping[str, Any]


def run() -> Result:
    from tests.servers.sshd import INSTALL, SSHD  # noqa: PLC0415  # imports asyncssh, whose memory counts

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        recorded = _recorded(Path(folder, "recorded"))
        figures["idle_mb"] = _apart(_check, 0, recorded, Path(folder))[1]
        for size in SIZES:
            seconds, megabytes = _apart(_check, size, recorded, Path(folder))
            beside = seconds - vitals.WINDOW
            figures |= {
                f"check_{size}_seconds": seconds,
                f"check_{size}_beside_window": beside,
                f"check_{size}_mb": megabytes,
            }
        if SSHD.exists():
            whole, alone = _apart(_check_by_ssh, SESSIONS, recorded, Path(folder, "ssh"))
            figures |= {
                f"ssh_{SESSIONS}_seconds": whole,
                f"ssh_{SESSIONS}_beside_window": whole - vitals.WINDOW,
                f"ssh_{SESSIONS}_machines_beside_window": alone - vitals.WINDOW,
            }
        else:
            print(
                f"grow_check: nothing is measured over SSH, for there is no {SSHD}: {INSTALL}.",
                file=sys.stderr,
            )
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


def _apart(
    measure: Callable[[int, Documents, str], tuple[float, float]],
    size: int,
    recorded: Documents,
    folder: Path,
) -> tuple[float, float]:
    """What is measured of *size* nodes, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(measure, (size, recorded, str(folder / str(size))))


def _check(size: int, recorded: Documents, folder: str) -> tuple[float, float]:
    """Seconds and megabytes of a check of *size* nodes."""
    os.environ |= {"MORPHEUS_DATA_DIR": folder, "MORPHEUS_CONFIG": "/dev/null"}
    names = [_names(k, min(LARGEST, size - k)) for k in range(0, size, LARGEST)]
    silent = max(1, size // SILENT)  # all of the first forest
    answers = [_answers(forest, recorded, 0 if k else silent) for k, forest in enumerate(names)]
    with _monitors([each for forest in answers for each in forest]) as ports:
        at = iter(ports)
        forests = [_forest(forest, at) for forest in names]
        for forest in forests:  # whose disk is measured
            Path(folder, "forests", forest.name, forest.nodes[0].name, "store").mkdir(parents=True)
        found = _found(forests)
        began = time.monotonic()
        with ThreadPoolExecutor(checkup.AT_ONCE) as pool:
            outcomes = list(pool.map(functools.partial(_one, _Cloud(folders.data_dir())), found))
        seconds = time.monotonic() - began
    expected = [Outcome.UNHEALTHY, *[Outcome.NOTHING] * len(forests)][: len(forests)]
    assert outcomes == expected, f"the checks said {outcomes}"
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _check_by_ssh(size: int, recorded: Documents, folder: str) -> tuple[float, float]:
    """Seconds of a check of *size* nodes that are entered by SSH, and of their machines alone."""
    from benchmarks import sessions  # noqa: PLC0415  # imports asyncssh

    os.environ |= {"MORPHEUS_DATA_DIR": folder, "MORPHEUS_CONFIG": "/dev/null"}
    names = _names(0, size)
    answers = list(_answers(names, recorded, 0))
    with _monitors(answers) as ports, sessions.machines(Path(folder), names) as way:
        [found] = _found([_forest(names, iter(ports))])
        began = time.monotonic()
        with sessions.entered(way) as cloud:
            outcome = _one(cloud, found)
        whole = time.monotonic() - began
        began = time.monotonic()
        with sessions.entered(way) as cloud, ThreadPoolExecutor(size) as pool:
            machines = (watch.machine_of(node, cloud) for node in found.forest.nodes)
            told = list(pool.map(lambda machine: gauges.measure(machine, vitals.WINDOW), machines))
        alone = time.monotonic() - began
    assert (outcome, len(told)) == (Outcome.NOTHING, size), f"the check said {outcome}"
    return whole, alone


def _found(forests: Sequence[Forest]) -> list[Found]:
    """The *forests* as they are recorded."""
    registry = site.local_registry()
    for forest in forests:
        registry.update(lambda document, _, forest=forest: document.with_forest(forest))  # type: ignore[misc]
    return [Found(forest, registry, "") for forest in forests]


def _one(cloud: Cloud, found: Found) -> Outcome:
    policy = Policy(thresholds=dict.fromkeys(Kind, FULL))  # what this computer does is not the point
    checked = checkup.check(Settings(), found, cloud, policy=policy, keep=True)
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


def _answers(names: Sequence[str], recorded: Documents, silent: int) -> Iterator[Documents | None]:
    """What the nodes of one forest answer, of which the last so many are *silent*."""
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

"""Updates of the registry on every kind of store, beside loops written by hand on the same server.

The servers are those of the tests, on loopback: Apache with and without locks (Debian's apache2), WsgiDAV,
SeaweedFS, and a file. ``requests`` are counted for one writer in the steady state, pruning and publishing
included; ``slower`` says how many times more updates a second the loop by hand makes.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.registry_writer import one_more
from benchmarks.result import Result
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from tests.servers.proxy import Proxy
from tests.servers.s3 import KEY_ID, SECRET, seaweed
from tests.servers.webdav import WebDav, apache, wsgidav

WRITERS, EACH = 10, 12
ALONE = 60
STEADY = 40  # updates before requests are counted: by then there is something to prune


@dataclass(frozen=True)
class Place:
    """A store that can be opened from settings, and read back."""

    kind: str
    url: str
    username: str
    password: str
    environment: dict[str, str]
    count: Callable[[], int]


def run() -> Result:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # Apache's user has to get there
        folder = Path(name)
        folder.chmod(0o755)
        with apache(folder / "locks") as server:
            _measure(figures, "apache_locks", _dav(server, "ours"))
            _measure_loop(figures, "lock", server)
            _measure_loop(figures, "etag", server)
            figures["apache_locks_requests"] = _requests(server)
        with apache(folder / "bare", locks=False) as server:
            _measure(figures, "apache", _dav(server, "ours"))
            figures["apache_requests"] = _requests(server)
        with wsgidav(folder / "wsgidav") as server:
            _measure(figures, "wsgidav", _dav(server, "ours"))
        with _s3(folder / "s3") as place:
            _measure(figures, "seaweedfs", place)
        _measure(figures, "local", _local(folder / "local"))
    by_hand = figures["lock_10_per_second"]
    figures["apache_locks_slower"] = by_hand / figures["apache_locks_10_per_second"]
    figures["apache_slower"] = by_hand / figures["apache_10_per_second"]
    goals = {f"{name}_lost": 0.0 for name in ("apache_locks", "apache", "wsgidav", "seaweedfs", "local")}
    goals |= {"apache_locks_slower": 3.0, "apache_slower": 5.0}
    return Result("registry", figures, goals | {"apache_locks_requests": 10.0, "apache_requests": 8.0})


def _dav(server: WebDav, path: str) -> Place:
    url = server.url(f"{path}/registry.json")
    return Place(
        "storagebox",
        url,
        server.username or "",
        server.password or "",
        {},
        lambda: _counted(Registry(server.store(f"{path}/registry.json"))),
    )


def _local(folder: Path) -> Place:
    environment = {"MORPHEUS_DATA_DIR": str(folder)}
    store = LocalStore(folder / "registry.json")
    return Place("local", "", "", "", environment, lambda: _counted(Registry(store)))


@contextlib.contextmanager
def _s3(folder: Path) -> Iterator[Place]:
    with seaweed(folder) as server:
        url = server.url("bench/registry.json")
        yield Place(
            "s3", url, KEY_ID, SECRET, {}, lambda: _counted(Registry(server.store("bench/registry.json")))
        )


def _counted(registry: Registry) -> int:
    forest = registry.find("oak")
    return len(forest.used_numbers) if forest else 0


def _measure(figures: dict[str, float], name: str, place: Place) -> None:
    """One writer, then ten at once; what each figure is called begins with *name*."""
    done = 0
    for writers, each in ((1, ALONE), (WRITERS, EACH)):
        seconds, taken = _written("ours", place, writers, each)
        done += writers * each
        figures[f"{name}_{writers}_per_second"] = writers * each / seconds
        figures[f"{name}_{writers}_p50_seconds"] = statistics.median(taken)
        figures[f"{name}_{writers}_p99_seconds"] = statistics.quantiles(taken, n=100)[98]
    figures[f"{name}_lost"] = done - place.count()


def _measure_loop(figures: dict[str, float], algorithm: str, server: WebDav) -> None:
    url = f"{server.base}{algorithm}.txt"
    with server.client() as client:
        client.put(url, content=b"0").raise_for_status()
        place = Place("storagebox", url, server.username or "", server.password or "", {}, lambda: 0)
        done = 0
        for writers, each in ((1, ALONE if algorithm == "lock" else 3), (WRITERS, EACH)):
            if algorithm == "etag" and writers > 1:
                each = 3  # noqa: PLW2901  # it refuses every write for a second after the last one
            seconds, _ = _written(algorithm, place, writers, each)
            done += writers * each
            figures[f"{algorithm}_{writers}_per_second"] = writers * each / seconds
        figures[f"{algorithm}_lost"] = done - int(client.get(url).text)


def _written(algorithm: str, place: Place, writers: int, each: int) -> tuple[float, list[float]]:
    """Let so many processes make so many updates each, all beginning at once; how long, and each update."""
    arguments = [algorithm, place.kind, place.url, place.username, place.password, str(each)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.registry_writer", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **place.environment},
        )
        for _ in range(writers)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    started = time.perf_counter()
    answers = []
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    seconds = time.perf_counter() - started
    return seconds, [taken for answer in answers for taken in json.loads(answer)]


def _requests(server: WebDav) -> float:
    """Requests of an update by one writer that goes on writing; a proxy on the way counts them."""
    with Proxy(server.port).running() as proxy:
        store = replace(server, port=proxy.port).store("counted/registry.json")
        registry = Registry(store)
        for done in range(2 * STEADY):
            if done == STEADY:
                proxy.requests.clear()
            registry.update(one_more)
        return len(proxy.requests) / STEADY

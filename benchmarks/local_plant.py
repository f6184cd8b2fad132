"""Planting three local nodes through the flow, against a bare script that reaches the same verdict.

Measured is the flow's own time, from its first step to its last: Prefect's start is excluded, its tasks
are not. The bare side writes three configurations, starts three servers, asks them every 20 ms with the
same questions, and sends the same message through. Both poll every 20 ms.
"""

import asyncio
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.flows import served
from benchmarks.result import Result
from morpheus import folders
from morpheus.machine.binaries import nats_server
from morpheus.machine.local import is_free
from morpheus.nats import admin, monitor
from morpheus.nats.cluster import judge

PAIRS, NODES = 9, 3
POLL, TIMEOUT = 0.02, 60.0  # seconds


def run() -> Result:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)):
        ours, bare = _measure(Path(folder))
    figures = {
        "plant_seconds": statistics.median(ours),
        "bare_seconds": statistics.median(bare),
        "difference_seconds": statistics.median(ours) - statistics.median(bare),
        "plant_slowest_seconds": max(ours),
        "bare_slowest_seconds": max(bare),
        "pairs": PAIRS,
    }
    return Result("local_plant", figures, {"difference_seconds": 1.0})


def _measure(folder: Path) -> tuple[list[float], list[float]]:
    from flows.plant import plant  # noqa: PLC0415  # after its settings
    from flows.teardown import teardown  # noqa: PLC0415

    binary = str(nats_server(None, folders.cache_dir(), "").path)
    ours, bare = [], []
    for pair in range(PAIRS + 1):  # the first warms up
        planted = plant(name="bench", size="medium", cloud="local")
        teardown(name="bench")
        seconds = _bare(binary, folder / f"bare-{pair}")
        if pair:
            ours.append(planted.seconds)
            bare.append(seconds)
    return ours, bare


def _bare(binary: str, folder: Path) -> float:
    """Seconds from nothing to a message through three servers."""
    started = time.monotonic()
    free = [offset for offset in range(200) if all(is_free(p + offset) for p in (14222, 16222, 18222))]
    offsets = free[:NODES]
    servers = [_start(binary, folder, f"n{k + 1}", offsets[k], offsets) for k in range(NODES)]
    try:
        deadline = time.monotonic() + TIMEOUT
        addresses = [("127.0.0.1", 18222 + offset) for offset in offsets]
        names = [f"n{k + 1}" for k in range(NODES)]
        while not judge(dict(zip(names, monitor.read_all(addresses), strict=True))).formed:
            if time.monotonic() > deadline:
                raise TimeoutError("the bare servers formed no cluster")
            time.sleep(POLL)
        urls = [f"nats://127.0.0.1:{14222 + offset}" for offset in offsets]
        asyncio.run(admin.probe(urls, timeout=TIMEOUT))
        return time.monotonic() - started
    finally:
        for server in servers:
            server.send_signal(signal.SIGKILL)
            server.wait()


def _start(
    binary: str, folder: Path, name: str, offset: int, offsets: Sequence[int]
) -> subprocess.Popen[bytes]:
    home = folder / name
    home.mkdir(parents=True)
    routes = ", ".join(f'"nats://127.0.0.1:{16222 + each}"' for each in offsets)
    (home / "nats.conf").write_text(
        f"""
        server_name: "{name}"
        listen: "127.0.0.1:{14222 + offset}"
        http: "127.0.0.1:{18222 + offset}"
        log_file: "{home}/nats.log"
        jetstream {{ store_dir: "{home}/store", max_memory_store: 1073741824, max_file_store: 10737418240 }}
        cluster {{ name: bare, listen: "127.0.0.1:{16222 + offset}", routes: [ {routes} ] }}
        """
    )
    return subprocess.Popen([binary, "-c", str(home / "nats.conf")])

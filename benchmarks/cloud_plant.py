"""Planting on the simulated cloud, beside the seconds that the cloud itself needs.

Measured is the provider without flows: from the first request that reaches the API to the last answer. The
cloud's own critical path is making a server, starting it, and setting the rules of the firewall that let the
nodes reach each other; the first application of the firewall ends while the server starts. Several plants of
each size are made, and the median counts.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from benchmarks.result import Result
from morpheus.cloud import Order
from morpheus.cloud.hetzner import HetznerCloud
from tests.hetzner.project import provider
from tests.simulator import Latency, Simulator

Given = TypeVar("Given")
Made = TypeVar("Made")
SIZES = (1, 3, 10, 50)
ROUNDS = 3
REGISTRY, FOREST = "0" * 32, "bench"
LATENCY = Latency()
CRITICAL = LATENCY.create + LATENCY.start + LATENCY.firewall  # seconds


def run() -> Result:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            rounds = [_measure(size, Path(folder)) for _ in range(ROUNDS)]
            planting, tearing, requests = (statistics.median(side) for side in zip(*rounds, strict=True))
            figures |= {
                f"plant_{size}_seconds": planting,
                f"plant_{size}_ratio": planting / CRITICAL,
                f"plant_{size}_requests": requests,
                f"teardown_{size}_seconds": tearing,
            }
    figures["plant_10_over_1"] = figures["plant_10_seconds"] / figures["plant_1_seconds"]
    figures["teardown_10_over_1"] = figures["teardown_10_seconds"] / figures["teardown_1_seconds"]
    goals = {f"plant_{size}_ratio": 1.15 for size in SIZES}
    goals |= {"plant_10_over_1": 1.25, "teardown_10_over_1": 1.25}
    return Result("cloud_plant", figures, goals)


def _measure(size: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of a plant and of a teardown of *size* nodes, and the requests of the plant."""
    simulator = Simulator(latency=LATENCY, validate=False)
    with simulator.running():
        cloud = provider(simulator, folder, ways=True)
        _plant(cloud, size)
        planting, requests = _seconds(simulator), len(simulator.log)
        assert len(simulator.billable()) == size
        simulator.log.clear()
        _tear_down(cloud, size)
        assert simulator.billable() == []
        return planting, _seconds(simulator), requests


def _plant(cloud: HetznerCloud, size: int) -> None:
    """As the flow ``plant`` does it."""
    cloud.price()
    cloud.list_servers(REGISTRY, FOREST)
    orders = [Order(name, FOREST, REGISTRY, "run", size) for name in _names(size)]
    _at_once(lambda make: make(), tuple(cloud.groundwork(orders).values()))
    made = _at_once(cloud.ensure_server, orders)
    cloud.admit(REGISTRY, FOREST, made)
    _at_once(lambda server: cloud.machine(server).enter(1), made)  # they are born at once


def _tear_down(cloud: HetznerCloud, size: int) -> None:
    """As the flow ``teardown`` does it."""
    cloud.list_servers(REGISTRY, FOREST)
    _at_once(lambda name: cloud.delete_server(REGISTRY, name), _names(size))
    assert not cloud.list_servers(REGISTRY, FOREST)
    cloud.clear(REGISTRY, FOREST)


def _names(size: int) -> list[str]:
    return [f"{FOREST}-node-{k}" for k in range(1, size + 1)]


def _at_once(act: Callable[[Given], Made], several: Sequence[Given]) -> list[Made]:
    with ThreadPoolExecutor(len(several)) as pool:
        return list(pool.map(act, several))


def _seconds(simulator: Simulator) -> float:
    """From the first request to the last answer."""
    return max(each[1] for each in simulator.log) - min(each[0] for each in simulator.log)

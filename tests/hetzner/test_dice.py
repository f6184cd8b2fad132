"""Planting while anything may go wrong: a complete forest, or nothing that costs money and a clear error."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from morpheus.cloud import Server
from morpheus.cloud.hetzner import HetznerCloud, actions, network
from morpheus.errors import MorpheusError, TransientError
from tests.hetzner.project import OURS, order, provider, simulated
from tests.simulator import Latency, Simulator

Result = TypeVar("Result")
TRIES = 5  # as many as a task has
UNDOING = 30  # as often as it takes, within reason


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name, seconds in {"FIRST_LOOK": 0.01, "TICK": 0.01}.items():
        monkeypatch.setattr(actions, name, seconds)
    monkeypatch.setattr(network, "LOOK_EVERY", 0.01)
    caplog.set_level(logging.ERROR, "morpheus.cloud")


def repeated(act: Callable[[], Result], times: int) -> Result:
    """As a task does: once more after what may pass."""
    for _ in range(times - 1):
        try:
            return act()
        except TransientError:
            continue
    return act()


def planted(cloud: HetznerCloud, count: int) -> list[Server | BaseException]:
    """What became of each of *count* nodes, all ordered at once."""

    def ensured(number: int) -> Server | BaseException:
        try:
            return repeated(lambda: cloud.ensure_server(order(number)), TRIES)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ensured, range(1, count + 1)))


def undone(cloud: HetznerCloud) -> None:
    for server in repeated(lambda: cloud.list_servers(OURS, "oak"), UNDOING):
        repeated(lambda name=server.name: cloud.delete_server(OURS, name), UNDOING)  # type: ignore[misc]
    repeated(lambda: cloud.clear(OURS, "oak"), UNDOING)


def fault_of(simulator: Simulator, folder: Path, seed: int, rate: float, count: int) -> str:
    """Plant under the dice of *seed*, undo what fails; what is wrong in the end, or nothing."""
    cloud = provider(simulator, folder, location=("fsn1", "nbg1"), create_timeout=10)
    for client in (cloud._servers._api.client._client, cloud._servers._api.client._client_hetzner):
        client._retry_interval_func = lambda _: 0.01
    simulator.faults.random(seed, rate)
    outcomes = planted(cloud, count)
    made = [each for each in outcomes if isinstance(each, Server)]
    errors = [each for each in outcomes if isinstance(each, BaseException)]
    try:
        if not errors:
            repeated(lambda: cloud.admit(OURS, "oak", made), UNDOING)
        else:
            undone(cloud)
    except MorpheusError as error:
        return f"cannot end: {error!r}"
    simulator.faults.clear()
    if unclear := [each for each in errors if not isinstance(each, MorpheusError) or not str(each)]:
        return f"unclear: {unclear!r}"
    return _left(simulator) if errors else _missing(simulator, [each.ip for each in made])


def _left(simulator: Simulator) -> str:
    left = [*simulator.billable(), *simulator.servers, *simulator.firewalls, *simulator.placement_groups]
    return f"left: {left}" if left else ""


def _missing(simulator: Simulator, addresses: list[str]) -> str:
    """What a complete forest lacks that is there with *addresses*."""
    names = sorted(f"oak-node-{k}" for k in range(1, len(addresses) + 1))
    if not names == sorted(simulator.servers) == sorted(x.split()[1] for x in simulator.billable()):
        return f"there are {sorted(simulator.servers)}, paid are {simulator.billable()}"
    if off := [each.name for each in simulator.servers.values() if each.status != "running"]:
        return f"off: {off}"
    if len(simulator.firewalls) != 1 or len(simulator.placement_groups) != (len(names) + 9) // 10:
        return f"firewalls {[*simulator.firewalls]}, groups {[*simulator.placement_groups]}"
    (firewall,) = simulator.firewalls.values()
    if open_ := [x.name for x in simulator.servers.values() if x.firewalls != {firewall.id: "applied"}]:
        return f"without the firewall: {open_}"
    admitted = [rule["source_ips"] for rule in firewall.rules if rule.get("port") == "6222"]
    if [sorted(each) for each in admitted] != [sorted(f"{address}/128" for address in addresses)]:
        return f"admitted are {admitted}"
    return ""


def faults_of(folder: Path, seeds: range, rate: float, count: int, scale: float) -> dict[int, str]:
    """What is wrong in the end, for each seed with which something is."""
    found = {}
    for seed in seeds:
        with simulated(latency=Latency(scale=scale), seed=seed) as simulator:
            found[seed] = fault_of(simulator, folder, seed, rate, count)
    return {seed: fault for seed, fault in found.items() if fault}


@pytest.mark.parametrize("rate", [0.05, 0.25])
@pytest.mark.parametrize(
    ("count", "runs"),
    [(1, 12), pytest.param(5, 6, marks=pytest.mark.long), pytest.param(12, 3, marks=pytest.mark.long)],
)
def test_a_plant_ends_complete_or_without_a_trace(tmp_path: Path, count: int, runs: int, rate: float) -> None:
    assert faults_of(tmp_path, range(runs), rate, count, scale=0.01) == {}


@pytest.mark.long
@pytest.mark.parametrize("scale", [0, 0.03])
@pytest.mark.parametrize("rate", [0.03, 0.1, 0.5])
@pytest.mark.parametrize(("count", "runs"), [(1, 40), (5, 20), (12, 8)])
def test_many_plants_end_so(tmp_path: Path, count: int, runs: int, rate: float, scale: float) -> None:
    assert faults_of(tmp_path, range(100, 100 + runs), rate, count, scale) == {}

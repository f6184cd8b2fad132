"""Dice and crowds: whatever happens, what is there and what is billed agree."""

import contextlib
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import hcloud
import pytest
import requests
from hcloud import APIException, HCloudException

from tests.simulator import Simulator
from tests.simulator.clients import Order, client_of, settled


def test_the_client_survives_what_it_asks_again(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.random(seed=1, rate=0.3, kinds=("conflict", "bad_gateway"))

    for number in range(20):
        client.placement_groups.create(f"group-{number}", "spread")

    assert len(simulator.placement_groups) == 20
    assert simulator.requests["POST /placement_groups"] > 20


@pytest.mark.parametrize("seed", range(5))
def test_what_is_billed_is_there(
    simulator: Simulator, client: hcloud.Client, order: Order, seed: int
) -> None:
    simulator.faults.random(seed, rate=0.2)
    outcomes: Counter[str] = Counter()
    for number in range(20):
        try:
            settled(order(f"oak-node-{number}"))
        except (HCloudException, requests.ConnectionError) as error:
            outcomes[type(error).__name__] += 1

    assert len(outcomes) > 1
    assert sorted(simulator.billable()) == sorted(f"server {name}" for name in simulator.servers)
    simulator.faults.clear()
    for server in client.servers.get_all():
        server.delete()
    assert simulator.billable() == []
    assert simulator.primary_ips == {}


def test_of_a_crowd_one_gets_the_name(simulator: Simulator) -> None:
    def create(_: int) -> bool:
        with contextlib.suppress(APIException):
            client_of(simulator).placement_groups.create("oak", "spread")
            return True
        return False

    with ThreadPoolExecutor(10) as pool:
        won = list(pool.map(create, range(20)))

    assert won.count(True) == 1


def test_one_can_be_started_by_hand() -> None:
    command = [sys.executable, "-m", "tests.simulator", "--scale", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = [process.stdout.readline() for _ in range(3)]
        try:
            found = re.fullmatch(r"endpoint (\S+)\ntoken (\S+)\nread only (\S+)\n", "".join(said))
            assert found
            headers = {"Authorization": f"Bearer {found[3]}"}
            assert requests.get(f"{found[1]}/servers", headers=headers, timeout=5).status_code == 200
        finally:
            process.terminate()

"""Requests: how many there are, how fast they come, and with which token."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from morpheus.cloud.hetzner import HetznerCloud, actions, api
from morpheus.errors import InvalidInputError, MorpheusError, UnreachableError
from tests.hetzner.project import OURS, ensure, order, provider, repeat, simulated
from tests.simulator import Latency, Limits, Simulator

# Limits of requests, tokens, busy times


@pytest.mark.parametrize("status", [409, 502, 503, 504])
def test_a_busy_api_is_asked_again(cloud: HetznerCloud, simulator: Simulator, status: int) -> None:
    simulator.faults.status("POST /servers", status)

    repeat(cloud, order(1))

    assert simulator.billable() == ["server oak-node-1"]


@pytest.mark.long
def test_an_api_that_keeps_silent_is_said_at_each_try(
    simulator: Simulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in {"ANSWER_TIMEOUT": 0.2, "SAID_AGAIN": 0.0}.items():
        monkeypatch.setattr(api, name, seconds)
    caplog.set_level(logging.INFO, "morpheus.cloud")
    simulator.faults.slow("POST /servers", 30)
    cloud = provider(simulator, tmp_path)

    with pytest.raises(UnreachableError):
        cloud.ensure_server(order(1))

    silent = "no answer from Hetzner's API to POST /v1/servers (ReadTimeout)"
    assert caplog.messages.count(silent) == api.RETRIES + 1


def test_the_projects_limit_of_requests_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LONGEST_PAUSE", 0.5)
    caplog.set_level(logging.INFO, "morpheus.cloud")
    with simulated(limits=Limits(requests_per_hour=12, refill=20)) as simulator:
        cloud = provider(simulator, tmp_path)
        for k in range(1, 4):
            repeat(cloud, order(k))

        assert not [each for each in simulator.log if each[3] == 429]
    assert "limit of requests is nearly used up" in caplog.text


def test_a_wrong_token_is_named_and_never_shown(simulator: Simulator, tmp_path: Path) -> None:
    wrong = "w" * 64
    with pytest.raises(InvalidInputError, match="HETZNER_API_TOKEN") as refused:
        provider(simulator, tmp_path, token=wrong).ensure_server(order(1))

    assert wrong not in str(refused.value)


def test_a_token_that_may_only_read_is_named(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="may only read"):
        provider(simulator, tmp_path, token=simulator.read_only_token).ensure_server(order(1))


def test_a_token_with_what_a_copy_adds_to_it_is_taken(simulator: Simulator, tmp_path: Path) -> None:
    provider(simulator, tmp_path, token=f"\ufeff {simulator.token}\r\n").ensure_server(order(1))


def test_the_token_stands_in_no_error_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with simulated(limits=Limits(requests_per_hour=2, refill=0.01)) as simulator:
        simulator.faults.token_in_message()
        cloud = provider(simulator, tmp_path)
        cloud._servers._api._pace.before = lambda request: request  # type: ignore[method-assign]
        for each in (cloud._servers._api.client._client, cloud._servers._api.client._client_hetzner):
            each._session.auth = None
            each._retry_max_retries = 0
        with pytest.raises(MorpheusError) as failed:
            cloud.ensure_server(order(1))

    error: BaseException | None = failed.value
    assert "***" in str(error)
    while error:
        assert simulator.token not in f"{error} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert simulator.token not in caplog.text


# What it takes


@pytest.mark.long
def test_planting_five_nodes_takes_few_requests(tmp_path: Path) -> None:
    with simulated(latency=Latency()) as simulator:
        cloud = provider(simulator, tmp_path)
        started = time.monotonic()
        cloud.price()
        cloud.list_servers(OURS, "oak")
        made = ensure(cloud, 5)
        cloud.admit(OURS, "oak", made)
        took = time.monotonic() - started

        looks = simulator.requests["GET /actions"]
        assert simulator.requests.total() - looks <= 20  # of 40, with some 16 looks: the rest is the flow's
        assert looks <= took / actions.TICK + 3


def test_who_comes_a_moment_later_shares_the_look(
    cloud: HetznerCloud, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "GATHERING", 1.0)  # this computer may be busy

    with ThreadPoolExecutor(4) as pool:
        for k in range(1, 5):
            pool.submit(cloud.ensure_server, order(k))
            time.sleep(0.01)

    assert simulator.requests["GET /servers"] == 1
    assert len(simulator.billable()) == 4


def test_what_costs_money_is_billed_until_it_is_gone(cloud: HetznerCloud, simulator: Simulator) -> None:
    ensure(cloud, 3)
    later = simulator.clock() + timedelta(hours=2)
    assert simulator.cost(later) > 0
    assert len(simulator.billable()) == 3

    for k in (1, 2, 3):
        cloud.delete_server(OURS, f"oak-node-{k}")
    cloud.clear(OURS, "oak")

    assert simulator.billable() == []
    assert not simulator.firewalls
    assert not simulator.placement_groups

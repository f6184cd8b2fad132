"""What happens to requests and replies: limits, tokens, losses."""

from datetime import UTC, datetime

import hcloud
import pytest
import requests
from hcloud import APIException

from tests.simulator import Limits, Simulator
from tests.simulator.clients import Order, client_of, public_key


def test_the_bucket_of_requests_empties_and_fills() -> None:
    simulator = Simulator(limits=Limits(requests_per_hour=2))
    now = datetime(2026, 11, 1, tzinfo=UTC)
    simulator.clock = lambda: now
    simulator.faults.token_in_message()
    with simulator.running() as url:
        headers = {"Authorization": f"Bearer {simulator.token}"}

        answers = [requests.get(f"{url}/v1/locations", headers=headers, timeout=5) for _ in range(3)]

        assert [each.status_code for each in answers] == [200, 200, 429]
        assert [each.headers["RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]
        assert answers[2].headers["RateLimit-Limit"] == "2"
        assert int(answers[2].headers["RateLimit-Reset"]) == int(now.timestamp()) + 2
        assert simulator.token in answers[2].json()["error"]["message"]
        simulator.advance(1)
        assert requests.get(f"{url}/v1/locations", headers=headers, timeout=5).status_code == 200
    assert simulator.requests == {"GET /locations": 4}
    assert [status for *_, status in simulator.log] == [200, 200, 429, 200]


def test_tokens(simulator: Simulator, order: Order) -> None:
    with pytest.raises(APIException) as wrong:
        client_of(simulator, "wrong").servers.get_all()
    reader = client_of(simulator, simulator.read_only_token)
    with pytest.raises(APIException) as refused:
        reader.ssh_keys.create("mine", public_key(1))

    assert (wrong.value.code, refused.value.code) == ("unauthorized", "token_readonly")
    assert reader.servers.get_all() == []


@pytest.mark.parametrize("after", ["reset", "timeout"])
def test_a_reply_may_be_lost_after_the_server_was_created(
    simulator: Simulator, order: Order, client: hcloud.Client, after: str
) -> None:
    simulator.faults.lose_reply("POST /servers", after=after)  # type: ignore[arg-type]  # one of two
    client._client._timeout = 0.3

    if after == "reset":
        with pytest.raises(requests.ConnectionError):
            order()
    else:
        with pytest.raises(APIException) as failed:
            order()
        assert failed.value.code == "uniqueness_error"

    assert list(simulator.servers) == ["oak-node-1"]
    assert simulator.requests["POST /servers"] == (1 if after == "reset" else 2)


def test_a_connection_may_be_refused_before_anything_happens(simulator: Simulator, order: Order) -> None:
    simulator.faults.refuse_connection("POST /servers")

    with pytest.raises(requests.ConnectionError):
        order()

    assert simulator.servers == {}


def test_a_slow_request(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.slow("GET /locations", 0.2, times=1)

    client.locations.get_all()

    arrived, replied, _, _ = simulator.log[-1]
    assert replied - arrived >= 0.2


def test_conflicts_and_bad_gateways_are_asked_again_by_the_client(
    simulator: Simulator, client: hcloud.Client
) -> None:
    key = client.ssh_keys.create("mine", public_key(1))
    simulator.faults.status("PUT /ssh_keys/{id}", 409, times=2)
    simulator.faults.status("PUT /*", 502, times=1)

    key.update(name="ours")

    assert simulator.requests["PUT /ssh_keys/{id}"] == 4
    assert list(simulator.ssh_keys) == ["ours"]


def test_unavailable_and_bare_codes_are_not(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.status("GET /servers", 503)

    with pytest.raises(APIException) as failed:
        client.servers.get_all()

    assert failed.value.code == "unavailable"
    assert failed.value.correlation_id


def test_conflicts_at_random_come_from_the_seed(client: hcloud.Client, simulator: Simulator) -> None:
    counts = []
    for _ in range(2):
        simulator.faults.clear()
        simulator.faults.conflict(0.3, seed=3)
        before = simulator.requests["POST /placement_groups"]
        for number in range(10):
            client.placement_groups.create(f"group-{number}", "spread").placement_group.delete()
        counts.append(simulator.requests["POST /placement_groups"] - before)

    assert counts[0] == counts[1] > 10


def test_removed_endpoints(simulator: Simulator, client: hcloud.Client) -> None:
    for path in ("/datacenters", "/actions"):
        with pytest.raises(APIException) as failed:
            client.request("GET", path)
        assert failed.value.code == "deprecated_api_endpoint"

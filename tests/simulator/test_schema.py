"""What the schema does not allow is found, on both sides."""

import hcloud
import pytest
from hcloud import APIException

from tests.simulator import Latency, Simulator, routes, schema
from tests.simulator.clients import Order, client_of
from tests.simulator.errors import SchemaError


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/ssh_keys", {"name": "mine"}),
        ("POST", "/placement_groups", {"name": "oak", "type": "spread", "lables": {}}),
        ("POST", "/placement_groups", {"name": "oak", "type": "cluster"}),
        ("GET", "/servers?nmae=oak", None),
        ("GET", "/load_balancers", None),
    ],
)
def test_a_wrong_request_is_recorded(method: str, path: str, body: object) -> None:
    simulator = Simulator(latency=Latency(scale=0))
    with simulator.running():
        client = client_of(simulator)

        with pytest.raises(APIException):
            client.request(method, path, json=body)

    assert len(simulator.violations) == 1


def test_it_can_be_switched_off() -> None:
    simulator = Simulator(validate=False)
    with simulator.running():
        client_of(simulator).request("GET", "/servers?nmae=oak")

    assert simulator.violations == []


def test_a_wrong_response_is_found() -> None:
    with pytest.raises(SchemaError, match="is a required property"):
        schema.check_response("GET /servers", 200, {"meta": {}})
    with pytest.raises(SchemaError, match="not among its answers"):
        schema.check_response("DELETE /servers/{id}", 204, None)


def test_what_the_api_no_longer_has_is_found(client: hcloud.Client, order: Order) -> None:
    created = order()
    answer = client.request("GET", f"/servers/{created.server.id}")
    schema.check_response("GET /servers/{id}", 200, answer)

    answer["server"]["datacenter"] = {"name": "fsn1-dc14"}

    with pytest.raises(SchemaError, match="there is no property 'datacenter'"):
        schema.check_response("GET /servers/{id}", 200, answer)


def test_a_simulator_that_breaks_says_so() -> None:
    simulator = Simulator(validate=False)
    with simulator.running(), pytest.raises(APIException) as failed:
        client_of(simulator).request("POST", "/ssh_keys", json={})

    assert failed.value.code == "server_error"
    assert "broke the simulator" in simulator.violations[0]


def test_every_route_is_in_the_schema() -> None:
    known = {
        f"{method.upper()} {path}"
        for path, operations in schema.spec()["paths"].items()
        for method in operations
    }

    assert set(routes.TABLE) <= known

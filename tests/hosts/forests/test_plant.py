"""Forests on real hosts: from the first request to a message through the cluster."""

import pytest

from flows.plant import plant
from flows.teardown import teardown
from morpheus.forest import Status
from tests.flows.homes import Home, nothing_is_left
from tests.lab import Lab
from tests.simulator import Simulator

pytestmark = pytest.mark.root


@pytest.mark.parametrize("image", ["debian-12", "debian-13"])
@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_a_forest_is_planted_and_taken_down(
    lab: Lab, home: Home, simulator: Simulator, nodes: int, image: str
) -> None:
    home.settle(hetzner={"image": image})

    planted = plant("oak", nodes=nodes)

    forest = home.forests["oak"]
    assert forest.status == Status.ACTIVE
    assert [node.name for node in planted.forest.staying] == [f"oak-node-{k}" for k in range(1, nodes + 1)]
    teardown("oak")
    nothing_is_left(simulator)

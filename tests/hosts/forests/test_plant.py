"""The smallest and the largest forest, from the first request to a message through it, and down again.

Three nodes stand in ``conftest.py``.
"""

import pytest

from flows.teardown import teardown
from morpheus.forest import Status
from morpheus.machine.limits import GIB
from tests.hosts.forests.stands import Stand, monitor

pytestmark = pytest.mark.root


@pytest.mark.parametrize("image", ["debian-12", "debian-13"])
def test_one_node_stands_alone_and_takes_no_more_of_its_disk_than_fits(stand: Stand, image: str) -> None:
    stand.home.settle(hetzner={"image": image}, integration={"jetstream_file": "100GB"})

    stand.plant(size="small")

    (host,) = stand.hosts
    assert (host.birth.image, stand.forest.status) == (image, Status.ACTIVE)
    told = monitor(host, "/jsz")
    assert "meta_cluster" not in told
    assert told["config"]["max_storage"] == 30 * GIB == int(stand.forest.nodes[0].metadata["jetstream_file"])
    teardown("oak")
    stand.nothing_remains()


def test_five_nodes_are_one_cluster(stand: Stand) -> None:
    stand.plant(size="large")

    names = {f"oak-node-{k}" for k in (1, 2, 3, 4, 5)}
    assert (stand.forest.status, stand.counted()) == (Status.ACTIVE, names)
    assert stand.status.formation.formed
    teardown("oak")
    stand.nothing_remains()

"""A forest of one machine becomes one of three under load: nothing is lost, wherever it is stopped."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from flows.discard import discard_old_store
from flows.grow import grow
from morpheus.cli.temporary import Temporary
from morpheus.errors import RefusedError
from morpheus.forest import Status
from morpheus.machine import NATS, WORKLOAD, places
from morpheus.machine.beside.over_ssh import KEPT, LAYOUT, UNIT, WATCHMAN
from morpheus.migration import Phase
from tests.flows.test_one_to_three import SHORT, StoppedError, stopped_at
from tests.flows.traffic import Traffic, Way, traffic
from tests.hosts.forests.conftest import settings
from tests.hosts.forests.stands import LOOPBACK, SOON, Stand, standing
from tests.lab import Host, Lab
from tests.nats.grove import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

OUTAGE = 30.0  # seconds in which a publisher may get no acknowledgement


def programs_on(host: Host) -> AbstractContextManager[Traffic]:
    """Programs beside the server of *host* while the block runs; afterwards nothing is lost."""
    return traffic(Way([LOOPBACK], place=host.namespace.entered), copies=1)


@pytest.fixture
def single(lab: Lab, prefect: Temporary, tmp_path: Path) -> Iterator[Stand]:
    """A forest of one with a workload, on Debian 12; the others of these tests are on Debian 13."""
    with standing(lab, tmp_path / "home", 11, 1, settings("debian-12", tmp_path)) as stand:
        yield stand


@pytest.fixture
def lonely(stand: Stand) -> Stand:
    """A forest of one."""
    stand.plant(nodes=1)
    return stand


def is_whole(stand: Stand) -> None:
    oak = stand.forest
    assert oak.migration
    assert oak.migration.phase == Phase.KEPT
    assert [node.status for node in oak.nodes] == [Status.ACTIVE] * 3
    assert stand.counted() == {node.name for node in oak.nodes}
    assert sorted(stand.simulator.servers) == sorted(node.name for node in oak.nodes)


def there(host: Host, *paths: str) -> list[str]:
    return [path for path in paths if host.run(["test", "-e", path]).returncode == 0]


def test_one_becomes_three_under_load_and_loses_nothing(single: Stand) -> None:
    host = single.host("oak-node-1")

    with programs_on(host) as programs:
        grown = grow("oak")

    is_whole(single)
    assert grown.fresh == ("oak-node-2", "oak-node-3")
    assert there(host, KEPT, LAYOUT.store, LAYOUT.config, places.FENCE) == [KEPT]
    units = host.run(["systemctl", "list-unit-files", UNIT, WATCHMAN, "--no-legend"]).stdout
    assert units == ""
    for each in single.hosts:
        for unit in (places.UNITS[NATS], places.UNITS[WORKLOAD]):
            assert each.run(["systemctl", "is-enabled", unit]).stdout == "enabled\n"
            assert each.run(["systemctl", "is-active", unit]).stdout == "active\n"
    print(f"outage {programs.gap:.1f} s; {grown.phases}")
    assert programs.gap < OUTAGE

    assert discard_old_store("oak")
    assert not discard_old_store("oak")
    assert single.forest.migration is None
    assert there(host, KEPT) == []


def test_what_was_stopped_leaves_nothing_closed_and_is_finished_by_the_next_run(lonely: Stand) -> None:
    """First behind the fence, which lifts itself; then when the old server was stopped for good.

    To finish needs nothing new: no type that can be had, and nothing of the budget.
    """
    with programs_on(lonely.host("oak-node-1")) as programs:
        with stopped_at("bring_over"), pytest.raises(StoppedError):
            grow("oak", keep=True)
        with pytest.raises(RefusedError, match="Finish that first with morpheus grow oak"):
            lonely.plant()
        before = programs.acknowledged
        wait_for(lambda: programs.acknowledged > before + 50, bool, timeout=SHORT + SOON)

        with stopped_at("finish"), pytest.raises(StoppedError):
            grow("oak")
        assert lonely.forest.migration
        assert lonely.forest.migration.phase == Phase.COMMITTED
        gone = {"server_type": "cx22", "server_type_fallback": []}
        lonely.home.settle(hetzner=gone, budget={"max_monthly_eur": 0.01})
        grow("oak")

    is_whole(lonely)


def test_what_fails_before_the_old_server_is_stopped_is_undone(lonely: Stand) -> None:
    old = lonely.forest.nodes[0]
    host = lonely.host(old.name)

    with programs_on(host), stopped_at("check_restored"), pytest.raises(StoppedError):
        grow("oak")

    oak = lonely.forest
    assert (oak.status, oak.migration, oak.nodes) == (Status.ACTIVE, None, (old,))
    assert list(lonely.simulator.servers) == [old.name]
    assert there(host, KEPT, LAYOUT.store, LAYOUT.config, places.FENCE) == []

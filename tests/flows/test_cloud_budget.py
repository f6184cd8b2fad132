"""The budget is kept over all forests, whoever plants and whatever is lost in between."""

import contextvars
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.plant import Planted, plant
from morpheus import settings as config
from morpheus import site
from morpheus.errors import (
    CloudError,
    MorpheusError,
    RefusedError,
)
from morpheus.registry import Registry
from tests.fakes import MemoryStore
from tests.flows.homes import Home, client
from tests.simulator import Simulator

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("machines_only")]


def at_once(*calls: Callable[[], Planted]) -> list[Planted | MorpheusError]:
    def outcome(call: Callable[[], Planted]) -> Planted | MorpheusError:
        try:
            return call()
        except MorpheusError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(contextvars.copy_context().run, outcome, call) for call in calls]
        return [future.result() for future in futures]


def monthly(home: Home, nodes: int) -> float:
    """What so many nodes cost a month."""
    return float(site.configured_cloud(config.load()).price().monthly) * nodes


class Meeting(MemoryStore):
    """A store whose first two writers write at once, each knowing nothing of the other."""

    def __init__(self) -> None:
        super().__init__()
        self._coming = itertools.count()
        self._both = threading.Barrier(2, timeout=30)

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        if next(self._coming) < self._both.parties:
            self._both.wait()
        return super().write(text, expected, backup=backup, over=over)


def test_two_plants_at_once_do_not_pass_the_budget_together(
    house: Callable[[str], Home], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house("home").settle()
    home.settle(budget={"max_monthly_eur": monthly(home, 4)})
    store = Meeting()
    monkeypatch.setattr(site, "shared_registry", lambda _: Registry(store))

    outcomes = at_once(lambda: plant("oak", nodes=3), lambda: plant("elm", nodes=3))

    (refused,) = [each for each in outcomes if isinstance(each, RefusedError)]
    (planted,) = [each for each in outcomes if isinstance(each, Planted)]
    assert "budget.max_monthly_eur" in str(refused)
    assert list(home.forests) == [planted.forest.name]
    assert sorted(simulator.servers) == [node.name for node in planted.forest.staying]
    assert len(simulator.firewalls) == 1


def test_the_budget_is_for_all_forests_and_healing_is_never_refused(
    house: Callable[[str], Home], simulator: Simulator
) -> None:
    home = house("home").settle()
    plant("oak", nodes=3)
    home.settle(budget={"max_monthly_eur": monthly(home, 2)})

    with pytest.raises(RefusedError, match=r"budget\.max_monthly_eur is .* Nothing was created"):
        plant("elm", nodes=1)
    plant("oak")

    assert len(simulator.servers) == 3
    assert list(home.forests) == ["oak"]


def test_what_is_missing_and_will_be_healed_counts_too(
    house: Callable[[str], Home], simulator: Simulator
) -> None:
    home = house("home").settle()
    plant("oak", nodes=5)
    home.settle(budget={"max_monthly_eur": monthly(home, 5)})
    for name in ("oak-node-4", "oak-node-5"):
        server = client(simulator).servers.get_by_name(name)
        assert server
        server.delete()
    simulator.faults.unavailable(times=1)
    with pytest.raises(CloudError, match="found no place"):
        plant("oak")

    with pytest.raises(RefusedError, match=r"budget\.max_monthly_eur"):
        plant("elm", nodes=1)
    plant("oak")

    assert len(simulator.servers) == 5

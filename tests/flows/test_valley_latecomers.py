"""Fresh nodes whose servers run and never come to the cluster: they are silent before they are taken out."""

import asyncio
import contextlib
import functools
import json
import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flows.plant import plant
from morpheus.errors import NotReadyError
from morpheus.machine import NATS, processes
from morpheus.nats import admin
from morpheus.wait import wait_until
from tests.flows.homes import Home, client
from tests.flows.valleys import Valley, copies
from tests.flows.valleys.plots import SILENT, Plot
from tests.flows.watched import watch
from tests.simulator import Simulator

pytestmark = pytest.mark.long

LATE = "oak-node-4"


@pytest.fixture
def apart() -> Iterator[pytest.MonkeyPatch]:
    """The late one does not come to the others, nor they to it, until this is undone."""
    written = copies._copy

    def copy(text: str, plot: Plot, root: Path) -> str:
        made = written(text, plot, root)
        found = re.search("route:([^@]+)@", made)
        return made.replace(found[1], "guessed") if found and plot.name == LATE else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_copy", copy)
        yield patch


@pytest.mark.parametrize("shut", [False, True])
def test_a_latecomer_that_comes_back_at_the_worst_moment_does_not_count(
    home: Home,
    simulator: Simulator,
    valley: Valley,
    apart: pytest.MonkeyPatch,
    monkeypatch: pytest.MonkeyPatch,
    *,
    shut: bool,
) -> None:
    """Its machine starts again, and reaches the others, right after it was taken out of the cluster."""
    home.settle(provisioning={"readiness_timeout": 8})
    effects, removed = watch(valley, monkeypatch), admin.remove_peer
    noted = effects.noted

    def happened(fact: str) -> None:
        noted(fact)
        if shut and fact == f"reach {LATE} 8222":  # it is awaited
            valley[LATE].describe(LATE, SILENT, ())

    async def remove_peer(urls: Sequence[str], seed: str, peer: str) -> None:
        await removed(urls, seed, peer)
        if peer != LATE:
            return
        apart.undo()
        with contextlib.suppress(StopIteration):  # it is gone
            copies.write_copies(valley[LATE], valley.root)
        if server := client(simulator).servers.get_by_name(LATE):
            server.reset()
            survivors = [valley[name].here for name in ("oak-node-1", "oak-node-3")]
            with contextlib.suppress(NotReadyError):  # it does not come, if all is well
                come = functools.partial(wait_until, "it to come", lambda: any(map(counts, survivors)))
                await asyncio.to_thread(come, bool, str, timeout=3)

    plant("oak", nodes=3)
    valley["oak-node-2"].lose_store()
    monkeypatch.setattr(effects, "noted", happened)
    monkeypatch.setattr(admin, "remove_peer", remove_peer)

    healed = plant("oak")

    names = ["oak-node-1", "oak-node-3", "oak-node-5"]
    assert [node.name for node in healed.forest.nodes] == names == list(valley.pids("oak"))


def test_a_fresh_node_that_was_in_the_cluster_is_not_replaced(
    home: Home, simulator: Simulator, valley: Valley, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster may have put streams on it: a person has to look."""
    home.settle(provisioning={"readiness_timeout": 8})
    effects = watch(valley, monkeypatch)
    noted = effects.noted

    def happened(fact: str) -> None:
        noted(fact)
        if fact == f"started {LATE} nats":
            survivors = [valley[name].here for name in ("oak-node-1", "oak-node-3")]
            what = "its leader to count it"
            wait_until(what, lambda: any(map(counts, survivors)), bool, str, timeout=60)
            processes.stop(valley[LATE].runs, NATS)

    plant("oak", nodes=3)
    valley["oak-node-2"].lose_store()
    monkeypatch.setattr(effects, "noted", happened)

    with pytest.raises(NotReadyError):
        plant("oak")

    names = ["oak-node-1", "oak-node-3", LATE]
    assert [node.name for node in home.forests["oak"].nodes] == names == sorted(simulator.servers)


def counts(host: str) -> bool:
    """Whether the server at *host* leads the cluster, and counts the late one."""
    with urllib.request.urlopen(f"http://{host}:8222/jsz") as answer:
        told = json.load(answer)
    group = told["meta_cluster"]
    return any(each.get("name") == LATE and each.get("current") for each in group.get("replicas") or ())

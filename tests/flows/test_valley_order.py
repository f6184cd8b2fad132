"""The order in which a forest on machines elsewhere comes and goes: nothing that exists is ever unknown."""

import pytest
import yaml

from flows.plant import plant
from flows.teardown import teardown
from morpheus import openssh
from morpheus.machine import places
from morpheus.registry.document import Document, parse
from tests.flows.hills import Effects
from tests.flows.homes import Home, nothing_is_left
from tests.flows.valleys import Valley
from tests.flows.watched import watch
from tests.simulator import Simulator

pytestmark = pytest.mark.long


@pytest.fixture
def effects(valley: Valley, monkeypatch: pytest.MonkeyPatch) -> Effects:
    return watch(valley, monkeypatch)


def first(effects: Effects, pattern: str) -> int:
    """When the first effect of that pattern happened."""
    return effects.seen.index(effects.matching(pattern)[0])


def recorded(effects: Effects, before: str) -> Document:
    """The registry as it stood *before* the first effect of that pattern."""
    there = effects.seen[: first(effects, before)]
    texts = [each.partition(": ")[2] for each in there if each.startswith("written registry: ")]
    return parse(texts[-1])


def test_secrets_stand_before_the_first_server_and_birth_keys_before_each(
    home: Home, simulator: Simulator, effects: Effects
) -> None:
    plant("oak", nodes=3)

    reserved, made = first(effects, "written registry: *oak*"), first(effects, "create *")
    assert reserved < first(effects, "written secrets/oak*") < made
    assert len(effects.matching("write secrets/oak")) == 1
    known = recorded(effects, "create *").forests["oak"]
    assert [node.name for node in known.nodes] == sorted(simulator.servers)
    for name, server in simulator.servers.items():
        told = yaml.safe_load(server.user_data)["ssh_keys"]
        assert known.node(name).metadata["host_key"] == told["ed25519_public"]
        assert openssh.public_line(told["ed25519_private"]) == told["ed25519_public"]


def test_in_the_end_each_machine_shows_a_key_that_nobody_else_ever_read(
    home: Home, simulator: Simulator, valley: Valley, effects: Effects
) -> None:
    plant("oak", nodes=3)

    shown = set()
    for node in home.forests["oak"].staying:
        plot, born = valley[node.name], yaml.safe_load(simulator.servers[node.name].user_data)["ssh_keys"]
        assert node.metadata["host_key"] == plot.shown != born["ed25519_public"]
        assert "host_key_next" not in node.metadata
        assert not plot.birth_key.exists()
        shown.add(plot.shown)
        both = recorded(effects, f"take-key {node.name}").forests["oak"].node(node.name).metadata
        assert (both["host_key"], both["host_key_next"]) == (born["ed25519_public"], plot.shown)
    assert len(shown) == 3


def test_planting_again_changes_no_file_on_any_machine(home: Home, valley: Valley, effects: Effects) -> None:
    plant("oak", nodes=3)
    before, pids = [valley[f"oak-node-{k}"].files() for k in (1, 2, 3)], valley.pids("oak")
    assert len({files[places.CERTIFICATE] for files in before}) == 3
    assert effects.matching("changed oak-node-2 node.crt")  # it was noticed then
    effects.seen.clear()

    plant("oak")

    assert effects.matching("put oak-node-2 nats.conf")
    for pattern in ("changed *", "reload *", "start *", "stop *", "write secrets/*", "create *"):
        assert effects.matching(pattern) == []
    for k, files in enumerate(before, 1):
        after = valley[f"oak-node-{k}"].files()
        changed = [path for path, text in after.items() if files.get(path) != text]
        assert [path for path in changed if not path.startswith((places.STORE, places.LOGS))] == []
    assert valley.pids("oak") == pids


def test_secrets_go_after_the_last_machine_and_before_the_record(
    home: Home, simulator: Simulator, effects: Effects
) -> None:
    plant("oak", nodes=3)
    document = home.folder / "data" / "secrets" / "oak.json"
    assert document.exists()
    effects.seen.clear()

    teardown("oak")

    gone = max(effects.seen.index(each) for each in effects.matching("deleted *"))
    assert gone < first(effects, "clear oak") < first(effects, "remove secrets/oak")
    assert "oak" in recorded(effects, "remove secrets/oak").forests
    assert "oak" not in home.forests
    assert not document.exists()
    nothing_is_left(simulator)

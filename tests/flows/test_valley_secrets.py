"""The secrets of a forest: without them nothing is begun, and they are told nowhere."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus import kept, keyring, openssh, secrets
from morpheus import settings as config
from morpheus.cli.app import app
from morpheus.errors import MachineError, RefusedError
from morpheus.machine import places
from morpheus.secrets import ForestSecrets
from tests.flows.homes import Home, nothing_is_left
from tests.flows.valleys import Valley
from tests.flows.valleys.plots import STILLBORN
from tests.folders import standing
from tests.simulator import Simulator

pytestmark = pytest.mark.long


def document(home: Home, forest: str) -> Path:
    return home.folder / "data" / "secrets" / f"{forest}.json"


def changes(simulator: Simulator) -> int:
    """How many requests were no mere looks."""
    return sum(times for what, times in simulator.requests.items() if not what.startswith("GET"))


def shown(*words: str) -> str:
    """What the command says that ends well."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


# What is needed


def test_a_recorded_forest_without_its_secrets_is_an_error_that_changes_nothing(
    home: Home, simulator: Simulator, valley: Valley
) -> None:
    plant("oak", nodes=3)
    before, made, pids = home.forests["oak"], changes(simulator), valley.pids("oak")
    document(home, "oak").unlink()

    with pytest.raises(RefusedError, match=r"secrets of oak .* are not there.* teardown oak") as refused:
        plant("oak")

    assert refused.value.exit_code == 5
    assert home.forests["oak"] == before
    assert not document(home, "oak").exists()
    assert changes(simulator) == made
    assert valley.pids("oak") == pids
    teardown("oak")
    nothing_is_left(simulator)


def test_the_secrets_of_an_earlier_planting_are_replaced(
    home: Home, simulator: Simulator, valley: Valley
) -> None:
    plant("oak", nodes=1)
    left = document(home, "oak").read_text()
    teardown("oak")
    document(home, "oak").write_text(left)

    plant("oak", nodes=1)

    assert document(home, "oak").read_text() != left
    assert all(valley.pids("oak").values())


@pytest.mark.parametrize("key", ["another", "none"])
def test_without_the_registrys_key_nothing_is_begun(
    home: Home, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    plant("elm", nodes=1)
    text, made = home.text, changes(simulator)
    if key == "another":
        monkeypatch.setenv(keyring.VARIABLE, keyring.new_key().get_secret_value())
    else:
        kept.path(home.folder / "data").unlink()

    for name in ("oak", "elm"):
        with pytest.raises(RefusedError, match=f"key .*{keyring.VARIABLE}") as refused:
            plant(name)
        assert refused.value.exit_code == 5

    assert changes(simulator) == made
    assert home.text == text
    assert not document(home, "oak").exists()


def test_who_only_looks_or_tears_down_needs_no_key(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=1)
    kept.path(home.folder / "data").unlink()

    assert "oak" in shown("list")
    assert "running" in shown("status", "oak")
    teardown("oak")

    nothing_is_left(simulator)
    assert not document(home, "oak").exists()


# What is told


def words(known: ForestSecrets, home: Home) -> Iterator[str]:
    """What nobody may read: every secret of the forest, and the registry's key; texts line by line."""
    told = json.loads(secrets.render(known))
    key = kept.key(home.folder / "data", home.registry_id)
    assert key
    yield from lines(told["ssh_key"], told["authority"]["key"])
    yield from (told[each] for each in ("client_password", "birth_seed"))
    yield from (told["access"][each] for each in ("app_seed", "system_seed", "route_password"))
    yield key.get_secret_value()


def born_keys(known: ForestSecrets, *nodes: str) -> list[str]:
    """The private host keys with which the nodes were born, line by line."""
    return list(lines(*(known.birth_key(node).private for node in nodes)))


def lines(*keys: str) -> Iterator[str]:
    """What is the keys' own: OpenSSH begins all of them with the same line."""
    begins = openssh.from_seed(bytes(openssh.SEED_BYTES)).private.splitlines()[1]
    every = (line for key in keys for line in key.splitlines())
    yield from (line for line in every if line != begins and "-----" not in line)


def found(secret: list[str], told: bytes) -> list[str]:
    """Which of the secrets stand there, as they are or as JSON writes them."""
    return [each for each in secret if each.encode() in told or json.dumps(each)[1:-1].encode() in told]


def contents(folder: Path) -> bytes:
    return b"\n".join(standing(folder).values())


def test_no_secret_of_a_forest_is_told_anywhere(
    home: Home,
    simulator: Simulator,
    valley: Valley,
    prefect: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for logger in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        caplog.set_level(logging.DEBUG, logger)
    plant("oak", nodes=3)
    valley["oak-node-2"].lose_store()
    with valley.fated(STILLBORN, "oak-node-[45]"), pytest.raises(MachineError, match="cloud-init"):
        plant("oak")
    plant("oak")
    grow_check()
    nodes = [node.name for node in home.forests["oak"].nodes]
    known = keyring.open_vault(keyring.keeper_of(config.load().registry)).open(home.forests["oak"])
    secret, born = list(words(known, home)), born_keys(known, *nodes)
    pids = [pid for pid in valley.pids("oak").values() if pid]
    kept.path(home.folder / "data").unlink()  # the one place of the registry's key

    told = {
        "the registry, what is beside it, and its backups": contents(home.folder / "data"),
        "the log": caplog.text.encode(),
        "Prefect's database": contents(prefect),
        "what Prefect keeps here": contents(Path(os.environ["PREFECT_HOME"])),
        "command lines": str([psutil.Process(pid).cmdline() for pid in pids]).encode(),
        "the machines' user data": str([simulator.servers[name].user_data for name in nodes]).encode(),
    }

    assert len(secret) > 10
    assert {place: found(secret, text) for place, text in told.items()} == {place: [] for place in told}
    user_data = told.pop("the machines' user data")
    assert {place: found(born, text) for place, text in told.items()} == {place: [] for place in told}
    # What looks for them finds what is there:
    assert found(born, user_data) == born
    for place in ("the log", "Prefect's database"):
        assert nodes[-1].encode() in told[place]
    delivered = valley[nodes[0]].files()[places.LAYOUT.cluster]
    assert found(secret, delivered) == [known.access.route_password]

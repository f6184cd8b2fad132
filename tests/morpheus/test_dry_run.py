"""What a dry run of plant says: the name that is made up where none was given, a size that buys nothing."""

import json

import pytest
from typer.testing import CliRunner

from morpheus import site
from morpheus.cli.app import app
from morpheus.forest import Forest, Node


@pytest.fixture(autouse=True)
def grove(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Forest:
    """A forest of five on this machine, whose name once stood for one that had none."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(home / "data"))
    nodes = [Node(f"a-new-forest-node-{k}", "127.0.0.1", status="active") for k in range(1, 6)]
    forest = Forest("a-new-forest", "local").with_nodes(*nodes)
    site.local_registry().update(lambda document, _: document.with_forest(forest))
    return forest


def test_a_forest_without_a_name_is_none_that_there_is(grove: Forest) -> None:
    done = CliRunner().invoke(app, ["plant", "local", "--dry-run", "--output", "json"])

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["forest"] != grove.name
    assert told["nodes"] == 3
    assert {"verb": "create", "subject": f"{told['forest']}-node-3"} in told["steps"]


def test_an_even_size_is_told_once_and_beside_the_result() -> None:
    done = CliRunner().invoke(app, ["plant", "local", "--nodes", "4", "--dry-run", "--output", "json"])

    assert json.loads(done.stdout)["nodes"] == 4
    assert done.stderr.count("4 nodes survive no more failures than 3") == 1

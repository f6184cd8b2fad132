"""Planting without a name: one is made up before anything is looked at, and no forest has it."""

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

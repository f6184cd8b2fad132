"""``morpheus ssh`` without a command: on which machine, where nobody said."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from morpheus import settings as config
from morpheus import site
from morpheus.cli.app import app
from morpheus.forest import Forest, Node


def test_who_names_none_of_several_nodes_is_told_both_ways_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "morpheus.yaml"))
    (tmp_path / "morpheus.yaml").write_text(json.dumps({"registry": {"type": "local"}}))
    nodes = (Node(f"oak-node-{k}", f"2001:db8::{k}", status="active") for k in (1, 2, 3))
    oak = Forest("oak", "hetzner").with_nodes(*nodes)
    site.require_shared(config.load()).update(lambda document, _: document.with_forest(oak))

    done = CliRunner().invoke(app, ["ssh", "oak"])

    assert done.exit_code == 2
    assert done.stderr == (
        "morpheus: oak has 3 nodes: log in to one with morpheus ssh oak node-1 (or node-2, node-3), or run a "
        "command on all of them with morpheus ssh oak -- COMMAND\n"
    )

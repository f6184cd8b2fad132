"""``morpheus node remove``: it asks, says what is left, and refuses what would lose something."""

import pytest

from tests.e2e.conftest import Home

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def names(home: Home) -> list[str]:
    forest = home.forest("oak")
    assert forest is not None
    return [node.name for node in forest.nodes]


def test_a_node_leaves_when_somebody_says_so_and_a_forest_of_three_keeps_all(home: Home) -> None:
    assert home.morpheus("plant", "local", "--nodes", "4", "--name", "oak").code == 0

    unasked = home.morpheus("node", "remove", "oak", "node-2")
    assert unasked.code == 2
    assert "Nobody is here to confirm it" in unasked.sentence
    assert unasked.sentence.endswith("morpheus node remove oak node-2 --yes")
    assert len(names(home)) == 4

    left = home.morpheus("node", "remove", "oak", "node-2", "--yes", "--output", "json")
    assert left.code == 0, left.err
    assert (left.json["removed"], left.json["status"], left.json["size"]) == (
        "oak-node-2",
        "active",
        "medium",
    )
    assert [node["name"] for node in left.json["nodes"]] == names(home)
    assert names(home) == ["oak-node-1", "oak-node-3", "oak-node-4"]
    assert home.morpheus("status", "oak", "--output", "json").json["current"] == 3
    assert sorted(path.name for path in home.running("oak").values()) == names(home)

    refused = home.morpheus("node", "remove", "oak", "node-1", "--yes")
    assert refused.code == 5
    assert "would have 2 node(s)" in refused.sentence
    assert home.morpheus("node", "remove", "oak", "node-2", "--yes").code == 2
    assert home.morpheus("node", "remove", "elm", "node-1", "--yes").code == 3
    assert len(home.running("oak")) == 3

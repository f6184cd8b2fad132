"""Growing from the command line: nobody is asked who is not here, and what is added is added once."""

import pytest

from tests.e2e.conftest import NEVER_READY, Home

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def names(home: Home) -> list[str]:
    forest = home.forest("oak")
    assert forest is not None
    return [node.name for node in forest.nodes]


def test_a_forest_grows_when_somebody_says_yes_and_rests_when_nobody_was_asked(home: Home) -> None:
    assert home.morpheus("plant", "local", "medium", "--name", "oak").code == 0

    unasked = home.morpheus("grow", "oak", "--nodes", "4")
    assert unasked.code == 10
    assert unasked.sentence == "Nobody is here to say yes, so nothing was changed: morpheus grow oak --yes"
    assert len(names(home)) == 3

    grown = home.morpheus("grow", "oak", "--nodes", "4", "--yes", "--output", "json")
    assert grown.code == 0, grown.err
    assert grown.json["added"] == ["oak-node-4"]
    assert home.morpheus("status", "oak", "--output", "json").json["current"] == 4

    again = home.morpheus("grow", "oak", "--nodes", "4", "--yes")
    assert (again.code, again.sentence) == (2, "morpheus: oak has 4 node(s): growing only adds some.")

    resting = home.morpheus("grow", "--auto", "--threshold", "1", "--output", "json")
    assert resting.code == 11, resting.err
    assert (resting.json["why"], resting.json["added"]) == ("cooldown", [])
    assert names(home) == [f"oak-node-{k}" for k in (1, 2, 3, 4)]
    assert len(home.running("oak")) == 4


def test_a_forest_above_a_threshold_grows_by_itself(home: Home) -> None:
    assert home.morpheus("plant", "local", "medium", "--name", "oak").code == 0

    done = home.morpheus("grow", "oak", "--auto", "--threshold", "1", "--output", "json")

    assert done.code == 0, done.err
    assert (done.json["outcome"], done.json["added"]) == ("grow", ["oak-node-4"])
    assert len(home.running("oak")) == 4


def test_a_node_that_does_not_get_ready_goes_again_and_the_forest_stays(home: Home) -> None:
    assert home.morpheus("plant", "local", "medium", "--name", "oak").code == 0
    home.settings(NEVER_READY.replace("90", "8"))

    failed = home.morpheus("grow", "oak", "--nodes", "4", "--yes")

    assert failed.code == 7, failed.err
    assert len(home.running("oak")) == 3
    forest = home.forest("oak")
    assert forest is not None
    assert (forest.status, [node.name for node in forest.nodes]) == (
        "active",
        [f"oak-node-{k}" for k in (1, 2, 3)],
    )
    assert home.morpheus("status", "oak").code == 0

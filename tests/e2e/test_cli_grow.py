"""Growing from the command line: nobody is asked who is not here, and what is added is added once."""

import asyncio
import os
import shlex
from dataclasses import replace
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from morpheus.forest import Forest, Status
from morpheus.machine.limits import MIB
from morpheus.nats.config import client_url
from morpheus.plan import retired
from tests.e2e.conftest import NEVER_READY, Home, ended, started

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


SMALL = "integration: {jetstream_file: 64MB}\n"


def fill(home: Home) -> None:
    """Put so much into a stream that JetStream's room is three quarters full on each node that has it."""
    forest = home.forest("oak")
    assert forest is not None

    async def publish() -> None:
        client = await nats.connect(client_url(forest.nodes[0]))
        stream = client.jetstream(timeout=20)
        await stream.add_stream(StreamConfig(name="full", subjects=["full"], num_replicas=3))
        for _ in range(48):
            await stream.publish("full", bytes(MIB - 1000))
        await client.close()

    asyncio.run(publish())


def names(home: Home) -> list[str]:
    forest = home.forest("oak")
    assert forest is not None
    return [node.name for node in forest.nodes]


def test_a_forest_grows_when_somebody_says_yes_and_rests_when_nobody_was_asked(home: Home) -> None:
    home.settings(SMALL)
    assert home.morpheus("plant", "local", "medium", "--name", "oak").code == 0

    unasked = home.morpheus("grow", "oak", "--nodes", "4")
    assert unasked.code == 10
    assert unasked.sentence.endswith("so nothing was changed: morpheus grow oak --nodes 4 --yes")
    assert len(names(home)) == 3

    lost = home.morpheus("grow", "oak", "--nodes", "4", PATH=os.defpath)
    assert lost.code == 10
    command = shlex.split(lost.sentence.rpartition(": ")[2])
    assert (Path(command[0]).is_file(), command[1:]) == (True, ["grow", "oak", "--nodes", "4", "--yes"])

    grown = ended(started([*command, "--output", "json"], home.environment, home.path))
    assert grown.code == 0, grown.err
    assert grown.json["added"] == ["oak-node-4"]
    assert home.morpheus("status", "oak", "--output", "json").json["current"] == 4

    again = home.morpheus("grow", "oak", "--nodes", "4", "--yes")
    assert again.code == 2
    assert "name more than that, or take one out with morpheus node remove oak NODE" in again.sentence

    fill(home)
    resting = home.morpheus("grow", "--auto", "--threshold", "60", "--output", "json")
    assert resting.code == 11, resting.err
    assert (resting.json["why"], resting.json["added"]) == ("cooldown", [])
    assert names(home) == [f"oak-node-{k}" for k in (1, 2, 3, 4)]
    assert len(home.running("oak")) == 4


def test_a_forest_that_fills_up_grows_by_itself(home: Home) -> None:
    home.settings(SMALL)
    assert home.morpheus("plant", "local", "medium", "--name", "oak").code == 0
    fill(home)

    done = home.morpheus("grow", "oak", "--auto", "--threshold", "60", "--output", "json")

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


def test_a_forest_of_one_becomes_three(home: Home) -> None:
    assert home.morpheus("plant", "local", "small", "--name", "oak").code == 0

    grown = home.morpheus("grow", "oak", "--nodes", "3", "--yes", "--output", "json")

    assert grown.code == 0, grown.err
    assert len(grown.json["added"]) == 2
    seen = home.morpheus("status", "oak", "--output", "json").json
    assert (seen["current"], seen["old_store"]["node"]) == (3, "oak-node-1")

    store = home.data / "forests/oak/oak-node-1/store-before"
    unasked = home.morpheus("grow", "oak", "--discard-old-store")
    assert (unasked.code, "Nobody is here to confirm it" in unasked.sentence) == (2, True)
    assert store.is_dir()
    discarded = home.morpheus("grow", "oak", "--discard-old-store", "--yes")
    assert (discarded.code, discarded.out) == (0, "The old store of oak is gone.\n"), discarded.err
    assert not store.exists()
    again = home.morpheus("grow", "oak", "--discard-old-store", "--yes", "--output", "json")
    assert (again.code, again.json) == (0, {"done": "oak has no old store: there is nothing to discard."})
    assert home.morpheus("status", "oak", "--output", "json").json["current"] == 3


def test_what_a_failed_expansion_left_is_taken_out_and_not_called_growing(home: Home) -> None:
    """As where the run that took it back was killed."""
    assert home.morpheus("plant", "local", "--nodes", "4", "--name", "oak").code == 0
    home.registry.update(lambda document, _: document.with_forest(half_taken_back(document.forests["oak"])))

    done = home.morpheus("grow", "oak", "--nodes", "5", "--yes")

    assert done.code == 10, done.err
    assert "oak has 3 node(s): what was left of a failed expansion was taken out in" in done.out
    assert done.sentence.endswith("for 5 nodes run this again: morpheus grow oak --nodes 5")
    assert names(home) == ["oak-node-1", "oak-node-2", "oak-node-3"]
    assert home.morpheus("grow", "oak", "--nodes", "5", "--yes").code == 0
    assert len(home.running("oak")) == 5


def half_taken_back(oak: Forest) -> Forest:
    """*oak* as an expansion by its fourth node leaves it that failed and was then killed."""
    return replace(retired(oak, ("oak-node-4",)), status=Status.GROWING)

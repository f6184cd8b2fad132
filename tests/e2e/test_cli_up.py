"""Prefect's server in the background, beside others that want the same port."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morpheus.machine import processes
from morpheus.wait import wait_until
from tests.e2e.conftest import Done, Home, ended

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


def test_two_users_who_start_at_once_get_a_server_each(tmp_path: Path) -> None:
    """Both find the same port free, and one is first to take it."""
    homes = [Home(tmp_path / name) for name in ("ada", "bob")]

    def up(home: Home) -> Done:
        return home.morpheus("up", "--output", "json")

    try:
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(up, homes))
        assert [done.code for done in both] == [0, 0], [done.err for done in both]
        assert len({done.json["api"] for done in both}) == 2
        for home, done in zip(homes, both, strict=True):
            assert json.loads((home.data / "prefect" / "up.json").read_text())["port"] == int(
                done.json["api"].split(":")[2].split("/")[0]
            )
            assert home.morpheus("down").out == "Prefect is stopped; forests stay as they are.\n"
    finally:
        for home in homes:
            home.morpheus("down", "--force")
            home.raze()


def test_an_interrupted_up_stops_what_it_began_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path / "ada")
    folder = home.data / "prefect"

    def runs(name: str) -> bool:
        return processes.find(folder, name) is not None

    def interrupted(name: str) -> Done:
        """What ``up`` says when Ctrl-C comes as soon as the program *name* runs."""
        up = home.start("up")
        wait_until(f"the {name}", lambda: runs(name), bool, str, timeout=100)
        up.send_signal(signal.SIGINT)
        return ended(up)

    try:
        done = interrupted("server")
        assert (done.code, done.sentence) == (130, "morpheus: Interrupted. What was begun is stopped again.")
        assert (runs("server"), (folder / "up.json").exists()) == (False, False)

        assert home.morpheus("up").code == 0
        processes.stop(folder, "worker")
        done = interrupted("worker")
        assert (done.code, done.err.count("morpheus: ")) == (130, 1)
        assert (runs("worker"), runs("server")) == (False, True)
    finally:
        home.morpheus("down", "--force")
        home.raze()

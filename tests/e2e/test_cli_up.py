"""Prefect's server in the background, beside others that want the same port."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import Done, Home

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

"""Whole programs that need a registry's key at the same moment, on one device and on several."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from morpheus import site
from tests.vault.sample import forest, recorded

pytestmark = pytest.mark.long

PROGRAMS = 5


def opened(folder: Path, devices: list[str]) -> list[tuple[int, str]]:
    """What programs that begin at once end with, one on each of *devices*: exit code and last line."""
    go = folder / "go"
    command = [sys.executable, "-m", "tests.vault.opener", str(folder / "registry.json"), str(go)]
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, "MORPHEUS_DATA_DIR": str(folder / each)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in devices
    ]
    for each in running:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    go.touch()
    said = [each.communicate(timeout=60)[0].strip() for each in running]
    return list(zip([each.returncode for each in running], said, strict=True))


def test_on_one_device_all_of_them_have_one_key(tmp_path: Path) -> None:
    ended = opened(tmp_path, ["device"] * PROGRAMS)

    assert [code for code, _ in ended] == [0] * PROGRAMS, ended
    assert len({said for _, said in ended}) == 1


def test_on_one_device_all_of_them_have_the_same_secrets_of_a_forest(tmp_path: Path) -> None:
    recorded(partial(site.file_store, tmp_path / "registry.json"), forest())

    ended = opened(tmp_path, ["device"] * PROGRAMS)

    assert [code for code, _ in ended] == [0] * PROGRAMS, ended
    assert len({said for _, said in ended}) == 1
    assert (tmp_path / "secrets" / "oak.json").stat().st_mode & 0o777 == 0o600


def test_on_several_devices_one_has_it_and_the_others_are_told(tmp_path: Path) -> None:
    ended = opened(tmp_path, [f"device-{k}" for k in range(PROGRAMS)])

    assert sorted(code for code, _ in ended) == [0, *[5] * (PROGRAMS - 1)], ended
    assert all("or set MORPHEUS_SECRET_KEY" in said for code, said in ended if code)

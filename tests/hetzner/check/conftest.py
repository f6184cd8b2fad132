"""A device for each test, and an SSH agent for whoever needs one."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hetzner.check.device import Device
from tests.simulator import Simulator


@pytest.fixture
def device(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    for name in (
        "HETZNER_API_TOKEN",
        "HCLOUD_TOKEN",
        "STORAGEBOX_PASSWORD",
        "SSH_AUTH_SOCK",
        "MORPHEUS_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Device(simulator, tmp_path)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent without keys."""
    address = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL)
    while not address.exists():
        assert process.poll() is None
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
    yield
    process.terminate()
    process.wait(timeout=10)

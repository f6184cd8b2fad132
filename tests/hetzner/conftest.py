"""A simulated project for each test, and devices that share one whose boxes have files."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.cloud.hetzner import HetznerCloud, boxes, network, servers
from tests.hetzner import device as one
from tests.hetzner.devices import Device, NewDevice, secrets_of
from tests.hetzner.project import provider, simulated
from tests.servers.boxes import Files, with_files
from tests.simulator import Latency, Simulator


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (boxes, network, servers):
        monkeypatch.setattr(each, "LOOK_EVERY", 0.05)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with simulated() as simulator:
        yield simulator


@pytest.fixture
def cloud(simulator: Simulator, tmp_path: Path) -> HetznerCloud:
    return provider(simulator, tmp_path)


@pytest.fixture
def device(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> one.Device:
    return one.settled(simulator, tmp_path, monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    with with_files(tmp_path / "there", latency=Latency(scale=0)) as files:
        yield files


@pytest.fixture
def new_device(files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[NewDevice]:
    """Makes devices; afterwards nothing they said or logged held a secret."""
    devices: list[Device] = []
    caplog.set_level(logging.DEBUG)

    def new(**hetzner: object) -> Device:
        devices.append(Device(files, tmp_path / f"device-{len(devices)}", hetzner))
        return devices[-1]

    yield new
    said = "\n".join([caplog.text, *(text for each in devices for text in each.said)])
    assert not [each for each in secrets_of(*devices) if each in said]
    for device in devices:
        assert all(each not in device.settings.read_text() for each in secrets_of(device))
    changes = {each for each in files.simulator.requests if "reset" in each}
    assert changes == set()  # nobody's password was ever changed

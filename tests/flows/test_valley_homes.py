"""The home of a forest in the Storage Box, of a plant that ends before anything tells that there is one."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running

from flows._undo import sweep
from flows.plant import plant
from flows.teardown import teardown
from morpheus import settings as config
from morpheus.cloud.hetzner.boxes import Boxes
from morpheus.errors import InvalidInputError
from tests.flows.homes import Home
from tests.flows.valleys import Valley
from tests.servers.boxes import Files, with_files
from tests.simulator import Latency

pytestmark = pytest.mark.long

PASSWORD = "Aa9-morpheus-registry"
REGISTRY_ID = "0" * 32


@pytest.fixture
def files(valley: Valley, tmp_path: Path) -> Iterator[Files]:
    with with_files(tmp_path / "boxes", hosts=valley, latency=Latency(scale=0)) as files:
        yield files


@pytest.fixture
def home(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A user whose registry stands in a box, and who wants a workload that brings its own NATS server."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
    home = Home(tmp_path / "home", files.simulator, monkeypatch).settle()
    boxes = Boxes(config.load().machine.hetzner)
    made = boxes.ensure(REGISTRY_ID, PASSWORD, boxes.offer())
    workload = home.folder / "workload"
    workload.write_text("#!/bin/sh\n")
    workload.chmod(0o755)
    return home.settle(
        registry={
            "type": "storagebox",
            "url": str(made.url),
            "username": str(made.username),
            "password": PASSWORD,
        },
        integration={
            "nats_install": False,
            "nimsforest_install": True,
            "nimsforest_download_url": str(workload),
        },
    )


def accounts(files: Files) -> list[str]:
    (box,) = files.simulator.storage_boxes.values()
    return [str(account.labels["forest-id"]) for account in box.subaccounts.values()]


def stop_once_it_has_a_home(files: Files) -> None:
    """What a plant leaves that is killed when its forest's account was just made."""
    files.simulator.faults.status("GET /servers", 403, times=None, code="forbidden")
    with pytest.raises(InvalidInputError, match="may not do this"):
        plant("oak", nodes=1, keep=True)
    files.simulator.faults.clear()
    assert accounts(files) == ["oak"]


def test_teardown_removes_a_home_of_which_no_record_tells(home: Home, files: Files) -> None:
    stop_once_it_has_a_home(files)
    assert not home.forests["oak"].is_embedded

    teardown("oak")

    assert accounts(files) == []
    assert home.forests == {}


def test_what_sweeps_up_after_a_killed_plant_removes_its_home(home: Home, files: Files) -> None:
    stop_once_it_has_a_home(files)
    run = home.forests["oak"].run

    sweep(plant, FlowRun(id=UUID(run), flow_id=uuid4(), parameters={"name": "oak"}), Running())

    assert accounts(files) == []
    assert home.forests == {}

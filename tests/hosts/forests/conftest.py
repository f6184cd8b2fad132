"""Flows act on hosts from the laptop, with a Prefect server there; two forests that many tests look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows._standby import STOOD_BY
from morpheus.cli.temporary import Temporary
from tests.flows.homes import Home
from tests.flows.served import served
from tests.hosts.forests.stands import Stand, standing
from tests.hosts.forests.workload import workload
from tests.lab import Lab
from tests.simulator import Simulator


@pytest.fixture(scope="package")
def prefect(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Temporary]:
    """The server of a command for all flows."""
    with served(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(autouse=True)
def nobody_stands_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stopped within the process of a test goes on where the test says so."""
    monkeypatch.setenv(STOOD_BY, "by the test")


@pytest.fixture
def home(prefect: Temporary, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A user on the laptop."""
    return Home(tmp_path / "home", simulator, monkeypatch).settle()


@pytest.fixture
def stand(lab: Lab, simulator: Simulator, home: Home) -> Stand:
    """A forest that is not planted yet, for a test that does as it likes."""
    return Stand(lab, simulator, home)


@pytest.fixture(scope="package")
def old(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Three nodes on Debian 12 with a workload; who looks at them leaves them as they were."""
    folder = tmp_path_factory.mktemp("old")
    with standing(lab, folder / "home", 1, 3, settings("debian-12", folder)) as stand:
        yield stand


@pytest.fixture(scope="package")
def new(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The same on Debian 13."""
    folder = tmp_path_factory.mktemp("new")
    with standing(lab, folder / "home", 2, 3, settings("debian-13", folder)) as stand:
        yield stand


@pytest.fixture(params=["old", "new"])
def either(request: pytest.FixtureRequest) -> Stand:
    """One and the other."""
    stand: Stand = request.getfixturevalue(request.param)
    return stand


def settings(image: str, folder: Path) -> dict[str, Any]:
    integration = {"nimsforest_install": True, "nimsforest_download_url": str(workload(folder))}
    return {"hetzner": {"image": image}, "integration": integration}

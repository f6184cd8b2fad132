"""Every test runs with a home of its own: nothing of the user's is read or written, whichever is chosen."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers.s3 import S3, seaweed

HOME = pytest.StashKey[str]()
pytest_plugins = ["tests.servers.fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module imports Prefect, which reads it once."""
    # How long an example takes says nothing here, and each run is to ask the same.
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile(
        "steady", deadline=None, derandomize=True, suppress_health_check=slow
    )
    hypothesis.settings.load_profile("steady")
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MORPHEUS_", "XDG_", "NATS_")):
            del os.environ[name]
    home = config.stash[HOME] = tempfile.mkdtemp(prefix="morpheus-tests-")
    os.environ |= {
        "HOME": home,
        "MORPHEUS_DATA_DIR": str(Path(home, "data")),
        "PREFECT_HOME": str(Path(home, "prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",  # failures come back as exceptions; their tracebacks fill pages
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Flows come last: Prefect's threads stay, and hypothesis takes their dice for its strategies' own."""
    items.sort(key=lambda item: item.path.parent.name == "flows")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[HOME], ignore_errors=True)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """SeaweedFS, for whoever asks; each test takes a key of its own in it."""
    with seaweed(tmp_path_factory.mktemp("s3") / "weed") as server:
        yield server

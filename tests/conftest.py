"""Every test runs with a home of its own: nothing of the user's is read or written, whichever is chosen."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

HOME = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module imports Prefect, which reads it once."""
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


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[HOME], ignore_errors=True)

"""What benchmarks of flows run in: the settings of nobody, data of their own, and a Prefect server."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def served(folder: Path) -> Iterator[None]:
    """Let flows run while the block runs; only in there may they be imported, for Prefect's settings."""
    settings = folder / "morpheus.yaml"
    settings.touch()  # empty: what this user set is not measured
    os.environ |= {
        "MORPHEUS_CONFIG": str(settings),
        "MORPHEUS_DATA_DIR": f"{folder}/data",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415  # after its settings

    with prefect_test_harness(server_startup_timeout=120):
        yield

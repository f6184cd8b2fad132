"""The Prefect server on which flows of tests run: that of a command, for all of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from morpheus.cli import temporary
from morpheus.cli.temporary import Temporary


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Temporary]:
    """Run flows on a server of their own while the block runs; yields that server.

    They go without the heartbeat, which costs each a second at its end.
    """
    server = temporary.start(folder)
    server.wait()
    with temporary_settings(
        {
            PREFECT_API_URL: server.api,
            PREFECT_API_AUTH_STRING: server.password,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        }
    ):
        yield server

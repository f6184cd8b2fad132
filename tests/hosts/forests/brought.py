"""The example of a workload that brings its own NATS server, as people build it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from morpheus.machine.binaries import nats_server

BUILD = Path(__file__).parents[3] / "examples" / "embedded" / "build.py"


def built(output: Path, *options: str) -> Path:
    """One file, for this computer's platform."""
    server = nats_server(None, Path("/nowhere"), "").path
    command = [sys.executable, str(BUILD), "--output", str(output), "--nats-server", str(server), *options]
    subprocess.run(command, check=True, capture_output=True)
    return output


def embedded(workload: Path, **more: Any) -> dict[str, Any]:
    """The settings of embedded mode."""
    return {
        "nats_install": False,
        "nimsforest_install": True,
        "nimsforest_download_url": str(workload),
        **more,
    }

"""Pack forest.py and a nats-server into one file that runs wherever there is a Python.

    python examples/embedded/build.py --output forest [--nats-server PATH] [--no-monitoring]

Then: integration: {nats_install: false, nimsforest_install: true, nimsforest_download_url: /path/to/forest}
"""

import argparse
import shutil
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = b"#!/usr/bin/python3\n"


def packed(output: Path, server: Path, *, monitored: bool) -> None:
    """Write the file: a zip that Python runs, behind the line that says so."""
    with output.open("wb") as file:
        file.write(PYTHON)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(HERE / "forest.py", "__main__.py")
            archive.write(server, "nats-server")
            if monitored:
                archive.writestr("monitored", b"")
    output.chmod(0o755)


def main() -> None:
    """Read the arguments, and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("forest"), help="the file to be made")
    parser.add_argument("--nats-server", type=Path, help="for the nodes' platform; else the one on PATH")
    parser.add_argument("--no-monitoring", action="store_true", help="leave port 8222 closed")
    given = parser.parse_args()
    server = given.nats_server or shutil.which("nats-server")
    if not server:
        parser.error("no nats-server is on PATH: name one with --nats-server")
    packed(given.output, Path(server), monitored=not given.no_monitoring)
    print(f"{given.output}: {given.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()

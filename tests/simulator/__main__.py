"""Run a simulator by hand: python -m tests.simulator --help."""

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.simulator import Latency, Limits, Simulator

USE = """
In another shell, for a Morpheus that has nothing yet:

  export MORPHEUS_CONFIG={folder}/morpheus.yaml MORPHEUS_DATA_DIR={folder}/data
  export HETZNER_API_TOKEN={token}{certificate}
  morpheus config set machine.hetzner.api_url {url}/v1 machine.hetzner.boxes_url {url}/v1 \\
    machine.hetzner.ipv6_target ::1
  morpheus init {init}
  morpheus plant cloud small --dry-run

What costs at the moment: kill -USR1 {pid}; it is shown at the end (Ctrl-C) as well.
"""
EPILOG = (
    "When it has started it prints the address, the tokens, and the commands that lead Morpheus to it. "
    "What costs is printed at its end, and when it gets SIGUSR1."
)


def main() -> None:
    """Serve until interrupted; the address, the tokens and how to use them are printed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator",
        description="Hetzner's Cloud and Storage Box APIs on loopback, in memory.",
        epilog=EPILOG,
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all latencies (default: 1)")
    parser.add_argument("--servers", type=int, default=100, help="servers the project may have")
    parser.add_argument("--seed", type=int, default=0, help="seed of ids, passwords and faults")
    parser.add_argument("--random", type=float, default=0.0, metavar="RATE", help="rate of random faults")
    parser.add_argument("--no-validate", action="store_true", help="do not check against the schema")
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FOLDER",
        help="serve what is in Storage Boxes from here, over WebDAV (default: boxes have no files)",
    )
    given = parser.parse_args()
    ends = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ends.set())
    with running(given) as (simulator, certificate):
        signal.signal(signal.SIGUSR1, lambda *_: print(bill(simulator), flush=True))
        print(
            f"endpoint {simulator.url}/v1\ntoken {simulator.token}\nread only {simulator.read_only_token}",
            USE.format(
                folder="/tmp/simulated",
                token=simulator.token,
                certificate=f" SSL_CERT_FILE={certificate}" if certificate else "",
                url=simulator.url,
                init="--storagebox --yes" if certificate else "--none    # --storagebox needs --boxes FOLDER",
                pid=os.getpid(),
            ),
            sep="\n",
            flush=True,
        )
        ends.wait()
        print(bill(simulator), flush=True)


@contextlib.contextmanager
def running(given: argparse.Namespace) -> Iterator[tuple[Simulator, Path | None]]:
    """The simulator that was asked for, and the certificate of its boxes where they have files."""
    options = {
        "latency": Latency(scale=given.scale),
        "limits": Limits(servers=given.servers),
        "validate": not given.no_validate,
        "seed": given.seed,
    }
    with contextlib.ExitStack() as stack:
        certificate = None
        if given.boxes:
            from tests.servers.boxes import with_files  # noqa: PLC0415  # only with this option

            files = stack.enter_context(with_files(given.boxes.absolute(), given.port, **options))
            simulator, certificate = files.simulator, files.certificate
        else:
            simulator = Simulator(**options)
            stack.enter_context(simulator.running(given.port))
        if given.random:
            simulator.faults.random(given.seed, given.random)
        yield simulator, certificate


def bill(simulator: Simulator) -> str:
    """What costs now, and what all cost so far."""
    things = simulator.billable()
    costs = "\n".join(f"  {each}" for each in things) or "  nothing"
    return f"What costs now:\n{costs}\nUntil now EUR {simulator.cost():.4f}, without VAT."


if __name__ == "__main__":
    main()

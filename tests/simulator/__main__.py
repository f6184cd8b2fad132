"""Run a simulator by hand: python -m tests.simulator --help."""

import argparse
import contextlib
import threading

from tests.simulator import Latency, Limits, Simulator


def main() -> None:
    """Serve until interrupted; the address and the tokens are printed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator",
        description="Hetzner's Cloud and Storage Box APIs on loopback, in memory.",
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all latencies (default: 1)")
    parser.add_argument("--servers", type=int, default=100, help="servers the project may have")
    parser.add_argument("--seed", type=int, default=0, help="seed of ids, passwords and faults")
    parser.add_argument("--random", type=float, default=0.0, metavar="RATE", help="rate of random faults")
    parser.add_argument("--no-validate", action="store_true", help="do not check against the schema")
    given = parser.parse_args()
    simulator = Simulator(
        latency=Latency(scale=given.scale),
        limits=Limits(servers=given.servers),
        validate=not given.no_validate,
        seed=given.seed,
    )
    if given.random:
        simulator.faults.random(given.seed, given.random)
    with contextlib.suppress(KeyboardInterrupt), simulator.running(given.port) as url:
        print(
            f"endpoint {url}/v1\ntoken {simulator.token}\nread only {simulator.read_only_token}", flush=True
        )
        threading.Event().wait()


if __name__ == "__main__":
    main()

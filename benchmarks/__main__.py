"""Run one benchmark or all; exit 1 when a goal is missed."""

import argparse
import importlib
import sys

NAMES = ("cli_read", "cloud_plant", "local_plant", "registry", "grow_check", "grow_loss", "hosts_plant")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="left out: all of them")
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark")
    wanted = parser.parse_args()
    holds = True
    for name in [wanted.name] if wanted.name else NAMES:
        result = importlib.import_module(f"benchmarks.{name}").run()
        print(result.json() if wanted.json else result.text(), flush=True)
        holds = holds and result.holds
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

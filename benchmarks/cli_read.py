"""How long ``morpheus list`` takes with 100 forests, beside a Python that does nothing."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.result import Result
from morpheus.forest import Forest, Node, Status
from morpheus.site import local_registry

FORESTS, PAIRS = 100, 15
LIST = (sys.executable, "-c", "from morpheus.cli import main; main()", "list")


def run() -> Result:
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "morpheus.yaml")
        settings.touch()  # empty: what this user set is not measured
        environment = {**os.environ, "MORPHEUS_DATA_DIR": folder, "MORPHEUS_CONFIG": str(settings)}
        _fill(Path(folder))
        pairs = [(_seconds(LIST, environment), _seconds((sys.executable, "-c", "pass"), environment))]
        pairs += [
            (_seconds(LIST, environment), _seconds((sys.executable, "-c", "pass"), environment))
            for _ in range(PAIRS)
        ]
        imports = _imports(environment)
    ours, bare = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
    figures = {
        "list_seconds": ours,
        "python_seconds": bare,
        "ratio": ours / bare,
        "imports_of_prefect": sum(name.split(".")[0] == "prefect" for name in imports),
        "modules_imported": len(imports),
    }
    return Result("cli_read", figures, {"list_seconds": max(0.4, 8 * bare), "imports_of_prefect": 0})


def _fill(folder: Path) -> None:
    def forest(number: int) -> Forest:
        name = f"forest-{number}"
        nodes = (Node(f"{name}-node-{k}", "127.0.0.1", Status.ACTIVE) for k in (1, 2, 3))
        return Forest(name, provider="local", size="medium").with_nodes(*nodes)

    forests = [forest(number) for number in range(FORESTS)]
    registry = local_registry(folder)
    for each in forests:
        registry.update(lambda document, _, each=each: document.with_forest(each))  # type: ignore[misc]


def _seconds(command: tuple[str, ...], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _imports(environment: dict[str, str]) -> list[str]:
    """Every module that the command imports."""
    command = (sys.executable, "-X", "importtime", *LIST[1:])
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr
    return [line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")]

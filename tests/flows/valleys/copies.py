"""The copies from which programs of a valley run: addresses and paths of this computer, no TLS of routes."""

import re
from pathlib import Path
from typing import Final

from morpheus.errors import MachineError
from morpheus.machine import NATS, WORKLOAD, Program, places
from tests.flows.valleys.plots import Plot

NOWHERE: Final = "127.255.255.254"  # stands for machines that are gone: nobody listens there
CONFIG, CLUSTER = "nats.conf", "cluster.conf"
_ROUTES_TLS = re.compile(r"\n  tls \{.*?\n  \}", re.DOTALL)
_ADDRESS = re.compile(r"\[([0-9a-f:]+)\]")
_PATH = re.compile(r'"(/(?:etc|var|opt)/[^"]*)"')
_CREDENTIALS = re.compile(r'(?:cert|key|ca)_file: "([^"]*)"')


def standing(program: Program, plot: Plot, root: Path) -> Program:
    """*program* as it runs here; what a unit of systemd would say about it is known."""
    if program.name == NATS:
        write_copies(plot, root)
        binary = str(plot.on_disk(places.NATS_SERVER))
        return Program(NATS, (binary, "-c", str(plot.runs / CONFIG)), program.env, program.ports)
    if program.name == WORKLOAD:
        env = {key: value.replace("localhost", plot.here) for key, value in program.env.items()}
        return Program(WORKLOAD, (str(plot.on_disk(places.WORKLOAD_BINARY)),), env)
    return program


def write_copies(plot: Plot, root: Path) -> None:
    """Make the copies anew from what was delivered.

    Raises:
        MachineError: something that the server would read is not there.
    """
    for path, name in ((places.LAYOUT.cluster, CLUSTER), (places.LAYOUT.config, CONFIG)):
        delivered = plot.on_disk(path)
        if not delivered.exists():
            raise MachineError(f"nats.service does not start: {path} is not there.")
        text = delivered.read_text()
        for file in _CREDENTIALS.findall(text):
            if not plot.on_disk(file).exists():
                raise MachineError(f"nats.service ended at once: open {file}: no such file.")
        (plot.runs / name).write_text(_copy(text, plot, root))


def _copy(text: str, plot: Plot, root: Path) -> str:
    def address(match: re.Match[str]) -> str:
        there = plot if match[1] == "::" else Plot.find(root, match[1])
        return there.here if there else NOWHERE

    if "cluster {" in text:
        text = _ROUTES_TLS.sub("", text, count=1)
    text = _ADDRESS.sub(address, text.replace("127.0.0.1", plot.here))
    return _PATH.sub(lambda match: f'"{plot.on_disk(match[1])}"', text)

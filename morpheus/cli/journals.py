"""The journals of machines: what NATS and the workload said, of all nodes at once."""

import functools
import shlex
from collections.abc import Iterator, Sequence

from morpheus.cli import show
from morpheus.cli.lines import Lines
from morpheus.cli.logs import Line, in_order, print_all, print_line
from morpheus.cli.reaching import End, on_all, raise_worst, reached
from morpheus.errors import MachineError
from morpheus.forest import Node
from morpheus.machine.places import LOG_UNIT, UNITS
from morpheus.machine.ssh import SshNode, Tell
from morpheus.site import Found


def tell(found: Found, node: str | None, *, lines: int, follow: bool, json: bool) -> None:
    """As :func:`morpheus.cli.logs.tell`, for a forest on machines elsewhere."""
    command = shlex.join(journal(lines, follow=follow))
    with reached(found) as reach:
        came: list[Line] = []
        ends: dict[str, End] = {}
        for each in _lines(*reach.machines(node), command):
            if isinstance(each, End):
                ends[each.node] = each
                if follow and each.fault:  # the others go on
                    show.warning(str(each.fault))
            elif follow:
                print_line(each, json=json)
            else:
                came.append(each)
        if not follow:
            print_all(in_order(sorted(came, key=lambda line: Node(line.node).number)), json=json)
        raise_worst(ends, show.warning)


def journal(lines: int, *, follow: bool) -> list[str]:
    """The command that shows what NATS and the workload said."""
    units = [word for unit in (*UNITS.values(), LOG_UNIT) for word in ("-u", unit)]
    form = ["-o", "short-iso-precise", "--utc", "--no-pager", "--quiet", "-n", str(lines)]
    return ["journalctl", *units, *form, *(["--follow"] if follow else [])]


def _lines(machines: Sequence[SshNode], shut: Sequence[End], command: str) -> Iterator[Line | End]:
    open_lines: dict[str, Lines] = {}
    for each in on_all(machines, functools.partial(_asked, command), shut):
        lines = open_lines.setdefault(each.node, Lines())
        data = b"" if isinstance(each, End) else each.data
        yield from (Line(each.node, text) for text in lines.of(data, final=isinstance(each, End)))
        if isinstance(each, End):
            yield each


def _asked(command: str, machine: SshNode, tell: Tell) -> int:
    complaint = bytearray()

    def heard(data: bytes, complains: bool) -> None:
        if complains:
            complaint.extend(data)
        else:
            tell(data, False)

    code = machine.attend(command, heard)
    if code != 0:
        said = complaint.decode(errors="replace").strip()[-400:]
        raise MachineError(
            f"The journal of {machine.name} cannot be read ({code}): {said or 'it said nothing'}"
        )
    return code

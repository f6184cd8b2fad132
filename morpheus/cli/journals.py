"""The journals of machines: what NATS and the workload said, of all nodes at once."""

import functools
import shlex
import time
from collections.abc import Iterator, Sequence

from morpheus.cli import show
from morpheus.cli.lines import Lines
from morpheus.cli.logs import Line, in_order, print_all, print_line
from morpheus.cli.reaching import End, Piece, Work, on_all, raise_worst, reached
from morpheus.errors import MachineError, UnreachableError
from morpheus.forest import Node
from morpheus.machine.places import LOG_UNIT, UNITS
from morpheus.machine.ssh import SshNode, Tell
from morpheus.site import Found
from morpheus.wait import pause

PAUSES = (0.5, 1.0, 2.0, 5.0)  # seconds before each try to come back to a node; the last one again and again
STEADY = 20.0  # seconds for which a journal came, after which its end is said anew
KILLED = 128  # with more than this a shell says that a program was killed


def tell(found: Found, node: str | None, *, lines: int, follow: bool, json: bool) -> None:
    """As :func:`morpheus.cli.logs.tell`, for a forest on machines elsewhere."""
    ask = functools.partial(_asked, journal("-n", str(lines)))
    work: Work = functools.partial(_followed, lines) if follow else ask
    with reached(found) as reach:
        came: list[Line] = []
        ends: dict[str, End] = {}
        for each in _lines(*reach.machines(node), work):
            if isinstance(each, str):
                show.warning(each)
            elif isinstance(each, End):
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


def journal(*which: str) -> list[str]:
    """The command that shows what NATS and the workload said; *which* of it."""
    units = [word for unit in (*UNITS.values(), LOG_UNIT) for word in ("-u", unit)]
    form = ["-o", "short-iso-precise", "--utc", "--no-pager", "--quiet"]
    return ["journalctl", *units, *form, *which]


def _lines(machines: Sequence[SshNode], shut: Sequence[End], work: Work) -> Iterator[Line | End | str]:
    """The lines that come, how each machine ended, and in between what is to be known of one that goes on."""
    open_lines: dict[str, Lines] = {}
    for each in on_all(machines, work, shut):
        if isinstance(each, Piece) and each.complains:
            yield each.data.decode()
            continue
        lines = open_lines.setdefault(each.node, Lines())
        data = b"" if isinstance(each, End) else each.data
        yield from (Line(each.node, text) for text in lines.of(data, final=isinstance(each, End)))
        if isinstance(each, End):
            yield each


def _asked(command: Sequence[str], machine: SshNode, tell: Tell) -> int:
    complaint = bytearray()

    def heard(data: bytes, complains: bool) -> None:
        if complains:
            complaint.extend(data)
        else:
            tell(data, False)

    code = machine.attend(shlex.join(command), heard)
    if code > KILLED:
        raise UnreachableError(f"The journal of {machine.name} ended when it was read ({code}).")
    if code != 0:
        said = complaint.decode(errors="replace").strip()[-400:]
        raise MachineError(
            f"The journal of {machine.name} cannot be read ({code}): {said or 'it said nothing'}"
        )
    return code


class _Told:
    """What was told of the journal of *machine*, as far as one has to know it to go on behind that."""

    def __init__(self, machine: SshNode, tell: Tell) -> None:
        self._node, self._tell = machine.name, tell
        self._time = ""  # of the last line; and all lines of that time:
        self._last: list[str] = []
        self._again: list[str] = []  # those of them that come once more
        self._lines = Lines()

    def rest(self, lines: int) -> list[str]:
        """The command by which the rest comes; the last *lines* where nothing came yet."""
        self._lines, self._again = Lines(), [*self._last]
        if not self._time:
            return journal("-n", str(lines), "--follow")
        year, month, day, clock = self._time.split()
        return journal("--since", f"{year}-{month}-{day} {clock} UTC", "--no-tail", "--follow")

    def heard(self, data: bytes, complains: bool) -> None:
        """Tell the whole lines in *data* that are new."""
        del complains  # nothing of that comes here
        for text in self._lines.of(data):
            if text in self._again:
                self._again.remove(text)
                continue
            when = Line(self._node, text).time if text[:1].isdigit() else None  # else it belongs to the last
            if when and when != self._time:
                self._time, self._last = when, []
            self._last.append(text)
            self._tell(f"{text}\n".encode(), False)


def _followed(lines: int, machine: SshNode, tell: Tell) -> int:
    """Tell the journal of *machine*, without an end: when the connection is lost it goes on where it ended.

    Raises:
        UnreachableError: the machine never gave an answer.
    """
    told, tries = _Told(machine, tell), 0
    machine.connection.shown(machine.way)
    while True:
        began = time.monotonic()
        try:
            _asked(told.rest(lines), machine, told.heard)
            why = f"The journal of {machine.name} ended."
        except UnreachableError as error:
            why = str(error)
        if time.monotonic() - began > STEADY:
            tries = 0
        if tries == 0:
            tell(f"{why} It goes on here when {machine.name} is back.".encode(), True)
        pause(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1

"""The operator's own commands on machines: on one as if it were here, on several with each line's node."""

import json as jsonlib
import sys
from collections.abc import Sequence
from typing import Any

from morpheus.cli import show
from morpheus.cli.lines import Lines
from morpheus.cli.reaching import End, Piece, on_all, raise_worst, reached
from morpheus.forest import Node
from morpheus.machine.ssh import SshNode, Tell
from morpheus.site import Found


def run(found: Found, node: str | None, command: Sequence[str], *, json: bool) -> int:
    """Run *command* on *node* or on all of them at once; the highest exit code.

    As ssh does it, the words of *command* are joined by blanks and given to the shell there; it has no input.

    Raises:
        UnreachableError: a machine gives no answer; the others have answered.
    """
    line = " ".join(command)

    def work(machine: SshNode, tell: Tell) -> int:
        return machine.attend(line, tell)

    with reached(found) as reach:
        machines, shut = reach.machines(node)
        printer = _Json() if json else _Raw() if len(machines) + len(shut) == 1 else Labelled()
        ends: dict[str, End] = {}
        for each in on_all(machines, work, shut):
            if isinstance(each, End):
                ends[each.node] = each
            printer.told(each)
        printer.ended(ends)
        raise_worst(ends, show.warning)
        return max(end.code or 0 for end in ends.values())


class _Raw:
    """What one machine says is passed on as it is."""

    def told(self, each: Piece | End) -> None:
        if isinstance(each, Piece):
            stream = (sys.stderr if each.complains else sys.stdout).buffer
            stream.write(each.data)
            stream.flush()

    def ended(self, ends: dict[str, End]) -> None:
        pass


class Labelled:
    """Each line of several machines with the node that said it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, bool], Lines] = {}

    def told(self, each: Piece | End) -> None:
        if isinstance(each, Piece):
            lines = self._lines.setdefault((each.node, each.complains), Lines())
            self._print(each.node, each.complains, lines.of(each.data))
            return
        for (node, complains), lines in self._lines.items():
            if node == each.node:
                self._print(node, complains, lines.of(b"", final=True))

    def ended(self, ends: dict[str, End]) -> None:
        pass

    def _print(self, node: str, complains: bool, lines: Sequence[str]) -> None:
        for line in lines:
            show.line_of(Node(node).label, line, complains=complains)


class _Json:
    """All that was said, as one object at the end."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, bool], bytes] = {}

    def told(self, each: Piece | End) -> None:
        if isinstance(each, Piece):
            place = (each.node, each.complains)
            self._said[place] = self._said.get(place, b"") + each.data

    def ended(self, ends: dict[str, End]) -> None:
        print(jsonlib.dumps({"nodes": [self._node(end) for _, end in sorted(ends.items())]}, indent=2))

    def _node(self, end: End) -> dict[str, Any]:
        out, complaint = (
            self._said.get((end.node, each), b"").decode(errors="replace") for each in (False, True)
        )
        fault = str(end.fault) if end.fault else None
        return {"name": end.node, "exit_code": end.code, "stdout": out, "stderr": complaint, "fault": fault}

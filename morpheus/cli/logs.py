"""What the servers and workloads of a forest said; of those on this computer, out of their files."""

import json as jsonlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from morpheus import site
from morpheus.cli import show, tailing
from morpheus.cli.looking import nodes_meant
from morpheus.cli.tailing import Tail
from morpheus.forest import Node
from morpheus.machine import NATS, WORKLOAD
from morpheus.site import Found
from morpheus.watch import server_of

# 2026-11-01T09:30:00 of a journal, 2026/11/01 09:30:00 of a NATS server's file; more digits may follow.
_TIME = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?)")
_EARLY = 60  # characters of a line within which its time stands


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a node's programs wrote."""

    node: str
    text: str

    @property
    def time(self) -> str | None:
        """When, in a form that sorts; None where the line does not say."""
        found = _TIME.search(self.text[:_EARLY])
        return " ".join(found.groups()) if found else None


def tell(found: Found, node: str | None, *, lines: int, follow: bool, json: bool) -> None:
    """Print the last *lines* of each node, in the order of their times; *follow* goes on until Ctrl-C.

    Raises:
        UnreachableError: a machine gives no answer; the others have answered.
    """
    if found.forest.provider == "local":
        _of_this_computer(found, node, lines=lines, follow=follow, json=json)
    else:
        from morpheus.cli import journals  # noqa: PLC0415  # imports asyncssh

        journals.tell(found, node, lines=lines, follow=follow, json=json)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """*lines* by their times; those of one node stand together before, and one without a time stays there."""
    keyed, last = [], ("", "")
    for line in lines:
        time = line.time or (last[1] if last[0] == line.node else "")
        last = (line.node, time)
        keyed.append((time, line))
    return [line for _, line in sorted(keyed, key=lambda each: each[0])]


def print_line(line: Line, *, json: bool) -> None:
    if json:
        print(jsonlib.dumps({"node": line.node, "line": line.text}), flush=True)
    else:
        show.line_of(Node(line.node).label, line.text)


def print_all(lines: Sequence[Line], *, json: bool) -> None:
    if json:
        told = [{"node": line.node, "line": line.text} for line in lines]
        print(jsonlib.dumps({"lines": told}, indent=2))
        return
    for line in lines:
        print_line(line, json=False)


def _of_this_computer(found: Found, node: str | None, *, lines: int, follow: bool, json: bool) -> None:
    tails = _tails(found, node)
    came = [
        Line(tail.name, text)
        for tail in tails
        for text in (*tail.last(lines), *([] if follow else tail.rest()))
    ]
    if not follow:
        print_all(in_order(came), json=json)
        return
    for line in in_order(came):
        print_line(line, json=json)
    for name, text in tailing.follow(tails):
        print_line(Line(name, text), json=json)


def _tails(found: Found, node: str | None) -> list[Tail]:
    """The files of each node: what its programs printed, and what its server wrote."""
    cloud = site.local_cloud()
    tails = []
    for each in nodes_meant(found.forest, node):
        machine = cloud.machine(server_of(each))
        printed = [machine.folder / f"{program}.out" for program in (NATS, WORKLOAD)]
        tails += [Tail(each.name, path) for path in (*printed, Path(machine.layout.log))]
    return tails

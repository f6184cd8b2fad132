"""What the programs of a forest on this computer say, out of their files; ssh leads nowhere there."""

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from morpheus import site
from morpheus.cli import tailing
from morpheus.cli.app import app
from morpheus.cli.logs import Line, in_order
from morpheus.cli.tailing import Tail
from morpheus.forest import Forest, Node
from morpheus.wait import wait_until


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Those of the two nodes of oak."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    nodes = [Node(f"oak-node-{k}", "127.0.0.1", "active") for k in (1, 2)]
    forest = Forest("oak", "local").with_nodes(*nodes)
    site.local_registry().update(lambda document, _: document.with_forest(forest))
    made = [tmp_path / "data" / "forests" / "oak" / node.name for node in nodes]
    for folder in made:
        folder.mkdir(parents=True)
    return made


def nats_line(second: int, text: str) -> str:
    return f"[4711] 2026/11/01 09:00:{second:02}.000000 [INF] {text}\n"


def test_the_files_of_all_nodes_stand_in_the_order_of_their_times(folders: list[Path]) -> None:
    (folders[0] / "nats.log").write_text(nats_line(1, "a") + nats_line(4, "d"))
    (folders[1] / "nats.log").write_text(nats_line(2, "b") + "  more of b\n" + nats_line(3, "c"))
    (folders[1] / "workload.out").write_text("hello\tworld\x1b[2J")

    done = CliRunner().invoke(app, ["logs", "oak"])

    assert done.exit_code == 0, done.output
    words = [line.split(" | ") for line in done.stdout.splitlines()]
    assert [(node, text.split("] ")[-1]) for node, text in words] == [
        ("node-2", "hello\tworld\\x1b[2J"),
        ("node-1", "a"),
        ("node-2", "b"),
        ("node-2", "  more of b"),
        ("node-2", "c"),
        ("node-1", "d"),
    ]


def test_as_json_it_is_one_object_and_of_one_node_where_one_is_named(folders: list[Path]) -> None:
    for folder in folders:
        (folder / "nats.log").write_text("".join(nats_line(k, str(k)) for k in range(9)))

    done = CliRunner().invoke(app, ["logs", "oak", "2", "--lines", "1", "--output", "json"])

    told = {"node": "oak-node-2", "line": nats_line(8, "8").rstrip()}
    assert json.loads(done.stdout) == {"lines": [told]}


def test_to_processes_nobody_logs_in(folders: list[Path]) -> None:
    for words in (["ssh", "oak"], ["ssh", "oak", "1", "--", "true"]):
        done = CliRunner().invoke(app, words)

        assert (done.exit_code, done.stdout) == (2, "")
        assert "processes of this computer" in done.stderr
        assert "morpheus logs oak" in done.stderr


def test_a_line_without_a_time_stays_with_the_one_before() -> None:
    lines = [Line("a", "2026-11-01T09:00:02 x"), Line("a", " more"), Line("b", "2026-11-01T09:00:01 y")]

    assert [line.text[-5:] for line in in_order(lines)] == [":01 y", ":02 x", " more"]


# Following files


@pytest.mark.parametrize("count", [0, 1, 3, 5000])
def test_the_last_lines_of_a_long_file(tmp_path: Path, count: int) -> None:
    lines = [f"{k} {'ä' * (k % 200)}" for k in range(4000)]
    (tmp_path / "log").write_text("\n".join(lines) + "\n")

    assert Tail("oak-node-1", tmp_path / "log").last(count) == (lines[-count:] if count else [])


def test_what_is_written_later_comes_once_also_when_the_file_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "EVERY", 0.01)
    path, seen = tmp_path / "log", list[str]()
    path.write_text("one\ntwo\nbegun")
    tail = Tail("oak-node-1", path)
    assert tail.last(1) == ["two"]
    told = tailing.follow([tail])
    reader = threading.Thread(target=lambda: seen.extend(next(told)[1] for _ in range(2)))
    reader.start()

    with path.open("a") as file:
        file.write(" and ended\n")
    wait_until("the line", lambda: list(seen), bool, str, timeout=10)
    path.rename(tmp_path / "log.1")
    path.write_text("three\n")

    reader.join(10)
    assert seen == ["begun and ended", "three"]

"""The command line as people and scripts see it: sentences, exit codes, JSON; what is left after a signal."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nats
import nats.errors
import pytest

from morpheus.machine import NATS, processes
from morpheus.wait import wait_until
from tests.e2e.conftest import PROGRAM, Done, Home, Works, ended, free_port, started
from tests.growth.schema import Check

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def grown(works: Works, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with the forest oak of three nodes, which its tests only look at."""
    home = Home(tmp_path_factory.mktemp("grown"), works.client)
    planted = home.morpheus("plant", "local", "medium", "--name", "oak", "--output", "json")
    assert planted.code == 0, planted.err
    assert planted.json["status"] == "active"
    yield home
    home.raze()


def test_plant_list_status_teardown_for_people(home: Home) -> None:
    assert "No forests yet" in home.morpheus("list").out

    planted = home.morpheus("plant", "local", "small", "--name", "elm")
    assert planted.code == 0, planted.err
    assert "elm stands: 1 node(s)" in planted.out

    listed = home.morpheus("list")
    assert listed.out.split("\n")[1].endswith("CREATED (UTC)")
    assert listed.out.split("\n")[2].split()[:5] == ["elm", "local", "small", "1", "active"]
    assert str(home.data) in listed.out
    looked = home.morpheus("status", "elm")
    assert looked.code == 0
    assert "1 of 1 current" in looked.out

    refused = home.morpheus("teardown", "elm")  # nobody is there to confirm it
    assert (refused.code, home.forest("elm") is None) == (2, False)
    gone = home.morpheus("teardown", "elm", "--yes")
    assert (gone.code, gone.out) == (0, "elm is gone, with 1 node(s) and their data.\n")
    assert home.left("elm") == []


def test_a_forest_without_a_name_gets_one_before_its_run_begins(home: Home, works: Works) -> None:
    """The run plants what was checked."""
    planted = home.morpheus("plant", "local", "small", "--output", "json")

    assert planted.code == 0, planted.err
    query = {"flow_runs": {"name": {"any_": [f"plant-{planted.json['name']}"]}}}
    (run,) = works.api.post("/flow_runs/filter", query)
    assert run["parameters"]["name"] == planted.json["name"]


def test_json_of_every_reading_command(grown: Home) -> None:
    listed = grown.morpheus("list", "--output", "json")
    assert [forest["name"] for forest in listed.json["forests"]] == ["oak"]

    status = grown.morpheus("status", "--output", "json")
    assert (status.code, status.json["formed"], status.json["current"]) == (0, True, 3)
    assert {node["pid"] for node in status.json["nodes"]} == set(grown.running())
    assert all(node["memory_bytes"] > 0 for node in status.json["nodes"])

    connected = grown.morpheus("connect", "oak", "--system", "--output", "json")
    context = json.loads(Path(connected.json["file"]).read_text())
    assert Path(context["nkey"]).stat().st_mode & 0o777 == 0o600
    assert connected.json["environment"]["NATS_URL"].count("nats://127.0.0.1:") == 3

    grow = grown.morpheus("grow", "--dry-run", "--threshold", "100", "--output", "json")
    assert (grow.code, grow.json["outcome"], grow.json["wanted"]) == (0, "nothing", 0)
    assert Check.model_validate(grow.json).nodes[2].cpu_percent is not None

    assert set(grown.morpheus("version", "--output", "json").json) == {
        "morpheus",
        "python",
        "prefect",
        "nats-server",
    }
    steps = grown.morpheus("plant", "local", "--name", "elm", "--dry-run", "--output", "json").json["steps"]
    assert {"verb": "create", "subject": "elm-node-3"} in steps
    assert grown.forest("elm") is None


def servers_heard(context: Path) -> set[str]:
    """Who answers ``$SYS.REQ.SERVER.PING``, asked as the nats command does it with that *context*."""
    known = json.loads(context.read_text())

    async def ping() -> set[str]:
        client = await nats.connect(known["url"].split(","), nkeys_seed=known["nkey"])
        try:
            inbox = client.new_inbox()
            answers = await client.subscribe(inbox)
            await client.publish("$SYS.REQ.SERVER.PING", reply=inbox)
            heard: set[str] = set()
            with contextlib.suppress(nats.errors.TimeoutError):
                while message := await answers.next_msg(timeout=3):
                    if not message.data:  # nobody is there to answer
                        break
                    heard.add(json.loads(message.data)["server"]["name"])
            return heard
        finally:
            await client.close()

    return asyncio.run(ping())


def test_the_systems_context_hears_every_server_and_the_applications_none(grown: Home) -> None:
    system = grown.morpheus("connect", "oak", "--system", "--output", "json").json
    application = grown.morpheus("connect", "oak", "--output", "json").json

    assert servers_heard(Path(system["file"])) == {f"oak-node-{k}" for k in (1, 2, 3)}
    assert servers_heard(Path(application["file"])) == set()


def test_planting_again_is_fast_and_says_so(grown: Home) -> None:
    before = set(grown.running())

    again = grown.morpheus("plant", "local", "--name", "oak", "--output", "json")

    assert (again.code, again.json["lost_streams"]) == (0, [])
    assert set(grown.running()) == before


BAD_INPUT = [
    (["plant", "local", "--name", "Oak"], 2, "cannot name a forest"),
    (["plant", "local", "--name", "../oak"], 2, "cannot name a forest"),
    (["plant", "local", "--name", "x" * 51], 2, "cannot name a forest"),
    (["plant", "local", "--nodes", "0"], 2, "1 to 100 nodes, not 0"),
    (["plant", "local", "--nodes", "2"], 2, "Two nodes"),
    (["plant", "local", "--nodes", "100000"], 2, "1 to 100 nodes, not 100000"),
    (["plant", "local", "small", "--nodes", "3"], 2, "small means 1"),
    (["plant", "local", "--nodes", "many"], 2, "--nodes"),
    (["plant", "local", "large", "--name", "oak"], 5, "morpheus grow oak"),
    (["plant", "cloud"], 2, "There is no API token"),
    (["status", "yew"], 3, "The forests are: oak."),
    (["teardown", "yew", "--yes"], 3, "The forests are: oak."),
    (["status", "Yew!"], 2, "cannot name a forest"),
    (["teardown", "oak"], 2, "morpheus teardown oak --yes"),
    (["list", "--output", "yaml"], 2, "yaml"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_sentence_and_a_code(
    grown: Home, arguments: list[str], code: int, sentence: str
) -> None:
    before = grown.registry.read()

    done = grown.morpheus(*arguments)

    assert (done.code, done.out) == (code, "")
    assert sentence in " ".join(done.err.replace("│", " ").split())
    assert grown.registry.read() == before


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        ("integration: {nats_version: 8.8.8, nats_releases_url: 'http://127.0.0.1:%d'}", 8, "Cannot fetch"),
        ("integration: {nats_version: new}", 2, "no version of nats-server"),
        ("integration: {nimsforest_install: true}", 2, "nimsforest_download_url"),
        (
            "integration: {nimsforest_install: true, nimsforest_download_url: /no/such}",
            8,
            "/no/such is not there",
        ),
        ("integration: {nats_versoin: 2.15.1}", 2, "nats_versoin"),
        ("registry: {password: '${NO_SUCH_VARIABLE}'}", 2, "NO_SUCH_VARIABLE"),
        ("registry: [", 2, "no YAML"),
        ("registry: {type: s3}", 2, "type s3 needs a url"),
    ],
)
def test_a_part_or_setting_that_cannot_be_used_is_named(
    home: Home, settings: str, code: int, sentence: str
) -> None:
    home.settings(settings.replace("%d", str(free_port())))

    done = home.morpheus("plant", "local", "small", "--name", "elm")

    assert (done.code, done.out) == (code, "")
    assert sentence in done.sentence
    assert home.left("elm") == []


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["list"], "empty"),
        (["list"], "a folder"),
        (["status"], "garbage"),
        (["plant", "local", "small"], "garbage"),
        (["plant", "local", "small"], "a folder"),
        (["teardown", "elm", "--yes"], "garbage"),
    ],
)
def test_a_registry_that_cannot_be_trusted_stops_everything(
    home: Home, command: list[str], kind: str
) -> None:
    document = home.data / "local.json"
    if kind == "a folder":
        document.mkdir()
    else:
        document.write_text("" if kind == "empty" else "\x00 no document")

    done = home.morpheus(*command)

    assert (done.code, done.out) == (6, "")
    assert "local.json" in done.sentence
    assert list(home.data.glob("forests/*/*")) == []


def test_what_cannot_work_is_said_before_anything_starts(home: Home) -> None:
    home.settings("integration: {nimsforest_install: true, nimsforest_download_url: /nowhere/forest}")

    for more in ((), ("--dry-run",)):
        done = home.morpheus("plant", "local", "small", *more)
        assert (done.code, "/nowhere/forest" in done.sentence) == (8, True)
        assert "Prefect" not in done.err


def test_watching_writes_one_look_a_line_for_scripts(grown: Home) -> None:
    watching = grown.start("status", "oak", "--watch", "--output", "json")
    assert watching.stdout is not None
    looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
    watching.send_signal(signal.SIGINT)

    assert [look["current"] for look in looks] == [3, 3]
    assert ended(watching).code == 0


def test_watching_checks_again_and_again_and_never_grows(grown: Home) -> None:
    before = grown.registry.read()
    watching = grown.start("grow", "oak", "--watch", "--threshold", "1", "--output", "json")
    assert watching.stdout is not None
    checks = [json.loads(watching.stdout.readline()) for _ in range(2)]
    watching.send_signal(signal.SIGINT)

    assert [check["why"] for check in checks] == ["one-machine", "one-machine"]
    assert ended(watching).code == 11
    assert grown.registry.read() == before


def test_contexts_of_ours_go_with_their_forest(home: Home) -> None:
    folder = home.path / "contexts" / "nats" / "context"
    config = {"XDG_CONFIG_HOME": str(home.path / "contexts")}
    assert home.morpheus("plant", "local", "small", "--name", "elm").code == 0
    assert home.morpheus("connect", "elm", **config).code == 0
    (folder / "elm-system.json").write_text('{"description": "somebody else\'s"}')

    assert home.morpheus("teardown", "elm", "--yes", **config).code == 0

    assert [path.name for path in folder.iterdir()] == ["elm-system.json"]


@pytest.mark.parametrize(("reader", "code"), [("head -c 1 >/dev/null", 0), ("cat >/dev/full", 1)])
def test_output_that_nobody_takes_is_no_fault_of_morpheus(grown: Home, reader: str, code: int) -> None:
    pipe = f"{PROGRAM} list | {reader}" if code == 0 else f"{PROGRAM} list >/dev/full"
    shell = ["bash", "-c", f"set -o pipefail; {pipe}"]

    done = ended(started(shell, grown.environment, grown.path))

    assert (done.code, done.out) == (code, "")
    assert len(done.err.splitlines()) == code


def test_a_killed_server_shows_in_status_at_once(home: Home) -> None:
    assert home.morpheus("plant", "local", "medium", "--name", "elm").code == 0
    server = processes.find(home.data / "forests/elm/elm-node-2", NATS)
    assert server is not None

    server.kill()
    seen = wait_until(
        "status to tell", lambda: home.morpheus("status", "elm", "--output", "json"), tells, str, timeout=4
    )

    states = {node["name"]: node["state"] for node in seen.json["nodes"]}
    assert "unreachable" in states["elm-node-2"]
    assert seen.sentence == f"morpheus: elm is not formed: {seen.json['reason']}."
    assert home.morpheus("plant", "local", "--name", "elm").code == 0
    assert home.morpheus("status", "elm").code == 0


def tells(done: Done) -> bool:
    return done.code == 7 and not done.json["formed"]


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["list"],
        ["status", "oak"],
        ["grow", "oak", "--dry-run", "--threshold", "100"],
        ["connect", "oak"],
        ["version"],
        ["status", "yew"],
        ["config", "list"],
        ["config", "set", "dns.ttl", "300"],
        ["check", "config"],
    ],
)
def test_reading_never_imports_prefect(grown: Home, command: list[str]) -> None:
    script = (
        "import atexit, os, sys\n"
        "atexit.register(lambda: 'prefect' in sys.modules and os._exit(99))\n"
        f"sys.argv = ['morpheus', *{command!r}]\n"
        "from morpheus.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=grown.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == (3 if "yew" in command else 0), done.stderr

"""morpheus init as a whole program: killed at every step, at a terminal, one registry on several devices."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.register import root
from morpheus import kept
from morpheus.wait import wait_until
from tests.e2e.conftest import Done, Home, Works, ended
from tests.flows.valleys import Valley
from tests.hetzner.project import public_key
from tests.servers.boxes import Files, with_files
from tests.simulator import Latency

pytestmark = pytest.mark.long
MAKE = ("init", "--storagebox", "--yes")
POST = "POST /storage_boxes"
NewHome = Callable[..., Home]


@pytest.fixture
def valley(tmp_path: Path) -> Iterator[Valley]:
    valley = Valley(tmp_path / "valley")
    yield valley
    valley.clear()


@pytest.fixture
def files(valley: Valley, tmp_path: Path) -> Iterator[Files]:
    with with_files(tmp_path / "there", latency=Latency(scale=0), hosts=valley) as files:
        yield files


@pytest.fixture
def new_home(files: Files, works: Works, valley: Valley, tmp_path: Path) -> NewHome:
    """Makes homes, empty but for settings that lead to the simulated project."""

    def new(name: str) -> Home:
        home = Home(tmp_path / name)
        key = home.path / "key"
        key.with_suffix(".pub").write_text(public_key())
        url = f"{files.simulator.url}/v1"
        home.settings(
            f"machine:\n  hetzner: {{api_url: {url}, boxes_url: {url}, ipv6_target: '::1'}}\n"
            f"  ssh: {{key_path: {key}}}\n"
        )
        home.more |= works.client  # to start a Prefect server for each plant takes long
        home.more |= {"HETZNER_API_TOKEN": files.simulator.token, "SSL_CERT_FILE": str(files.certificate)}
        into = os.pathsep.join([str(root() / "tests/e2e/into_valley"), str(root())])
        home.more |= {"PYTHONPATH": into, "VALLEY": str(valley.root)}
        return home

    return new


Moment = Callable[[Files, Callable[[], None]], None]


def ordering(files: Files, kill: Callable[[], None]) -> None:
    """Before the order is done: the password is kept, and no box is there."""
    files.simulator.faults.slow(POST, 2.0, times=1)
    wait_until("the order", lambda: files.simulator.requests[POST], bool, str, timeout=30)
    kill()


def ordered(files: Files, kill: Callable[[], None]) -> None:
    """While the box is being made."""
    files.simulator.faults.action_stuck("create", 3600)
    wait_until("the box", lambda: files.simulator.storage_boxes, bool, str, timeout=30)
    before = files.simulator.requests.total()
    wait_until("a look at it", files.simulator.requests.total, lambda total: total > before, str, timeout=30)
    kill()
    files.simulator.advance(3601)


def _at(method: str, part: str, *, when: str) -> Moment:
    """While the box's files are written: when a request comes, or when it was done."""

    def moment(files: Files, kill: Callable[[], None]) -> None:
        done: list[str] = []

        def hook(_user: str, seen: str, path: str) -> None:
            if not done and seen == method and part in path:
                done.append(path)
                kill()

        setattr(files, when, hook)
        wait_until("such a request", lambda: done, bool, str, timeout=30)

    return moment


MOMENTS = {
    "ordering": ordering,
    "ordered": ordered,
    "first look": _at("PROPFIND", "registry.versions", when="before"),
    "probing": _at("MOVE", "morpheus.probing", when="before"),
    "registry making": _at("MOVE", "registry.making", when="before"),
    "registry made": _at("MOVE", "registry.making", when="after"),
    "check making": _at("MOVE", "_key.making", when="before"),
    "check made": _at("MOVE", "_key.making", when="after"),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=[name.replace(" ", "-") for name in MOMENTS])
def test_killed_at_any_moment_the_same_command_completes_it(
    files: Files, new_home: NewHome, moment: Moment
) -> None:
    home = new_home("a")
    process = home.start(*MAKE)
    moment(files, lambda: os.kill(process.pid, signal.SIGKILL))
    assert process.wait(timeout=30) == -signal.SIGKILL
    process.communicate()
    (before,) = kept.known(home.data)
    assert "registry:" not in (home.path / "morpheus.yaml").read_text()

    again = home.morpheus(*MAKE)

    assert again.code == 0, again.err
    (after,) = kept.known(home.data)
    assert (after.password, after.key, after.registry_id) == (
        before.password,
        before.key,
        before.registry_id,
    )
    (box,) = files.simulator.storage_boxes.values()
    assert SecretStr(box.password) == after.password
    assert files.simulator.billable() == ["storage_box morpheus-registry"]
    listed = home.morpheus("list", "--output", "json")
    assert (listed.code, listed.json["forests"]) == (0, [])
    other = new_home("b")
    line = home.morpheus("init", "--export").out
    assert "proven" in typed(other, line, "init", "--import").out  # there is one key, and it is proven


def typed(home: Home, text: str, *words: str) -> Done:
    """Run a command with *text* piped into it."""
    program = str(Path(sys.executable).with_name("morpheus"))
    done = subprocess.run(
        [program, *words],
        input=text,
        env=home.environment,
        cwd=home.path,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_forest_of_one_device_is_seen_on_two_others(files: Files, works: Works, new_home: NewHome) -> None:
    first, second, third = (new_home(each) for each in ("a", "b", "c"))
    assert first.morpheus(*MAKE).code == 0
    planted = first.morpheus("plant", "cloud", "small", "--name", "oak")
    assert planted.code == 0, planted.err
    export = first.morpheus("init", "--export")

    assert typed(second, export.out, "init", "--import").code == 0
    assert third.morpheus("init", "--subaccount").code == 0

    for home in (first, second, third):
        (forest,) = home.morpheus("list", "--output", "json").json["forests"]
        assert (forest["name"], forest["status"]) == ("oak", "active")
    gone = third.morpheus("teardown", "oak", "--yes")
    assert gone.code == 0, gone.err
    assert first.morpheus("list", "--output", "json").json["forests"] == []
    assert files.simulator.billable() == ["storage_box morpheus-registry"]
    secrets = {each.get_secret_value() for each in (*_secrets(first), *_secrets(third))}
    logs = [path for home in (first, second, third, works.home) for path in home.path.rglob("*.log")]
    said = [planted.out, planted.err, gone.out, gone.err, *(path.read_text() for path in logs)]
    assert len(secrets) == 3
    assert not [each for each in secrets if any(each in text for text in said)]


def _secrets(home: Home) -> list[SecretStr]:
    return [each for known in kept.known(home.data) for each in (known.password, known.key) if each]


# At a terminal


def test_the_first_plant_in_a_cloud_asks(files: Files, new_home: NewHome) -> None:
    home = new_home("a")

    terminal = home.at_terminal("plant", "cloud", "small", "--name", "oak")
    question = terminal.expect("1, 2 or 3: ")
    assert (
        "1  in a Storage Box at Hetzner (recommended): a new one, bx11 in fsn1, EUR 3.79 a month" in question
    )
    assert "3  nowhere else: a file of this device only" in question
    terminal.answer("yes")
    terminal.expect("1, 2 or 3: ")  # that was none of them, and nothing was made
    assert files.simulator.billable() == []
    terminal.answer("1")
    terminal.expect("Make a Storage Box, bx11 in fsn1")
    terminal.answer("y")

    assert terminal.end() == 0, terminal.shown
    assert "The registry stands at https://" in terminal.shown
    assert sorted(files.simulator.billable()) == ["server oak-node-1", "storage_box morpheus-registry"]
    (forest,) = home.morpheus("list", "--output", "json").json["forests"]
    assert forest["name"] == "oak"
    assert not [each for each in _secrets(home) if each.get_secret_value() in terminal.shown]


def test_without_a_terminal_the_first_plant_names_the_commands(files: Files, new_home: NewHome) -> None:
    done = new_home("a").morpheus("plant", "cloud", "small")

    assert done.code == 2
    assert all(each in done.err for each in ("--storagebox --yes", "--url URL --username USER", "--none"))
    assert files.simulator.billable() == []


def test_who_goes_on_without_is_warned_when_planting(files: Files, new_home: NewHome) -> None:
    home = new_home("a")
    terminal = home.at_terminal("init")
    terminal.expect("1, 2 or 3: ")
    terminal.answer("3")
    assert terminal.end() == 0
    assert "This device only knows what is planted" in terminal.shown

    planted = home.morpheus("plant", "cloud", "small", "--name", "oak")

    assert planted.code == 0, planted.err
    assert "known to this device only" in planted.err
    assert home.morpheus("teardown", "oak", "--yes").code == 0
    assert files.simulator.billable() == []


def test_the_line_of_another_device_is_pasted_and_not_shown(files: Files, new_home: NewHome) -> None:
    first, second = new_home("a"), new_home("b")
    assert first.morpheus(*MAKE).code == 0
    line = first.morpheus("init", "--export").out.strip()

    terminal = second.at_terminal("init")
    assert "there is morpheus-registry (bx11, fsn1, u" in terminal.expect("1, 2 or 3: ")
    terminal.answer("1")
    assert "is never reset" in terminal.expect("1 or 2: ")
    terminal.answer("1")
    terminal.expect("(not shown): ")
    terminal.answer(line)

    assert terminal.end() == 0, terminal.shown
    assert line[10:40] not in terminal.shown
    assert kept.known(second.data) == kept.known(first.data)


def test_an_address_is_asked_for_and_its_password_not_shown(files: Files, new_home: NewHome) -> None:
    first, second = new_home("a"), new_home("b")
    assert first.morpheus(*MAKE).code == 0
    (access,) = kept.known(first.data)
    assert access.password
    assert access.url
    password = access.password.get_secret_value()

    terminal = second.at_terminal("init")
    terminal.expect("1, 2 or 3: ")
    terminal.answer("2")
    terminal.expect("URL (")
    terminal.answer(access.url)
    terminal.expect("User (")
    terminal.answer(access.username or "")
    terminal.expect("Password of ")
    terminal.answer(password)

    assert terminal.end() == 0, terminal.shown
    assert password not in terminal.shown
    assert "Key for secrets: not on this device." in terminal.shown
    assert second.morpheus("list").code == 0


def test_two_inits_of_one_device_make_one_box(files: Files, new_home: NewHome) -> None:
    files.simulator.faults.slow(POST, 0.5)
    home = new_home("a")

    done = [ended(each) for each in [home.start(*MAKE), home.start(*MAKE)]]

    assert min(each.code for each in done) == 0
    assert {each.code for each in done} <= {0, 4}, [each.err for each in done]
    assert files.simulator.billable() == ["storage_box morpheus-registry"]
    assert len(kept.known(home.data)) == 1

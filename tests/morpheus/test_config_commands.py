"""morpheus config: what it shows, what it changes, and what it keeps to itself."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from morpheus import folders, settings
from morpheus.cli.app import app
from morpheus.cli.configuring import masked

SECRET = "abcd-0123456789-wxyz"
BOX = ("registry.type", "storagebox", "registry.url", "https://u1.example/")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's settings would stand; there are none yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("MORPHEUS_CONFIG", "HETZNER_API_TOKEN", "HCLOUD_TOKEN", "STORAGEBOX_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config" / "morpheus" / "morpheus.yaml"


def config(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["config", *words], input=typed)


def told(*words: str) -> Any:
    done = config(*words, "--output", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def listed() -> dict[str, tuple[Any, str]]:
    return {each["key"]: (each["value"], each["source"]) for each in told("list")["settings"]}


def refused(*words: str) -> str:
    done = config(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    return " ".join(done.stderr.split())


# Where


def test_without_a_file_path_says_where_set_makes_one(file: Path) -> None:
    assert told("path") == {
        "config": str(file),
        "exists": False,
        "named": False,
        "data": str(folders.data_dir()),
        "cache": str(folders.cache_dir()),
    }
    assert "not there yet: every setting has its default" in config("path").stdout

    assert config("set", "growth.max_nodes", "7").exit_code == 0

    assert told("path")["exists"]
    assert file.read_text() == "growth:\n  max_nodes: 7\n"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_file_that_counts_is_the_one_that_changes(file: Path, tmp_path: Path) -> None:
    here = tmp_path / "morpheus.yaml"
    here.write_text("# mine\ngrowth: {max_nodes: 3}  # few\n")
    here.chmod(0o644)

    changed = told("set", "growth.max_nodes", "5")

    assert changed == {
        "file": str(here),
        "settings": [{"key": "growth.max_nodes", "value": 5, "source": "file"}],
    }
    assert here.read_text() == "# mine\ngrowth: {max_nodes: 5}  # few\n"
    assert here.stat().st_mode & 0o777 == 0o600
    assert not file.exists()


def test_a_file_that_a_variable_names_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "other.yaml"))

    for words in (("list",), ("get", "dns.ttl")):
        assert "not there: make it with morpheus config set KEY VALUE, or unset" in refused(*words)
    before = config("path")
    assert (before.exit_code, "MORPHEUS_CONFIG names it, so commands fail until" in before.stdout) == (
        0,
        True,
    )

    told("set", "dns.ttl", "60")

    assert told("path")["config"] == str(tmp_path / "other.yaml")
    assert "not there" not in config("path").stdout
    assert settings.load().dns.ttl == 60


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir(parents=True)
    file.symlink_to(tmp_path / "dotfiles.yaml")
    (tmp_path / "dotfiles.yaml").write_text("dns: {ttl: 60}\n")

    told("set", "dns.ttl", "90")

    assert file.is_symlink()
    assert (tmp_path / "dotfiles.yaml").read_text() == "dns: {ttl: 90}\n"


def test_a_place_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "taken" / "morpheus.yaml"))

    done = config("set", "dns.ttl", "60")

    assert (done.exit_code, "Cannot make the folder" in done.stderr) == (1, True)


# Looking


def test_every_setting_is_listed_with_who_gave_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told("set", *BOX, "growth.max_nodes", "10", "dns.domain", "${ZONE}-${ZONE}")
    monkeypatch.setenv("HCLOUD_TOKEN", SECRET)
    monkeypatch.setenv("STORAGEBOX_PASSWORD", "short")
    monkeypatch.setenv("ZONE", "a.example")

    found = listed()

    assert found["machine.hetzner.token"] == ("abcd...wxyz", "environment")
    assert found["registry.password"] == ("***", "environment")
    assert found["growth.max_nodes"] == (10, "file")  # also when it is as by default
    assert found["dns.domain"] == ("a.example-a.example", "file")
    assert found["dns.ttl"] == (300, "default")
    assert found["firewall.ssh"] == (["0.0.0.0/0", "::/0"], "default")
    text = config("list").stdout
    assert all(key in text for key in found)
    assert SECRET not in text


def test_one_setting_can_be_read_and_a_secret_only_when_asked_for(file: Path) -> None:
    told("set", "registry.type", "local", "registry.password", SECRET)

    assert config("get", "registry.type").stdout == "local\n"
    assert config("get", "growth.enabled").stdout == "true\n"
    assert config("get", "registry.password").stdout == "abcd...wxyz\n"
    assert config("get", "registry.password", "--show").stdout == f"{SECRET}\n"
    assert told("get", "registry.password")["value"] == "abcd...wxyz"
    assert told("get", "registry.password", "--show")["value"] == SECRET
    assert told("get", "machine.hetzner.token") == {
        "key": "machine.hetzner.token",
        "value": None,
        "source": "default",
    }


@pytest.mark.parametrize(
    ("secret", "shown"), [("a" * 15, "***"), ("abcdefghijklmnop", "abcd...mnop"), ("x", "***")]
)
def test_only_long_secrets_show_their_ends(secret: str, shown: str) -> None:
    assert masked(secret) == shown


@pytest.mark.parametrize("command", [["get"], ["set"]])
@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("growth.max_node", "growth.max_node is no setting: did you mean growth.max_nodes?"),
        ("max_nodes", "did you mean growth.max_nodes?"),
        ("qqq", "morpheus config list shows those there are"),
        ("dns", "dns is a part of the settings: its keys are dns.provider, dns.domain, dns.ttl."),
        ("dns.ttl.x", "did you mean dns.ttl?"),
    ],
)
def test_a_key_that_is_none_is_answered_with_what_was_meant(
    file: Path, command: list[str], key: str, sentence: str
) -> None:
    assert sentence in refused(*command, key, *(["5"] if command == ["set"] else []))
    assert not file.exists()


# Changing


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("growth.max_nodes", "7", 7),
        ("growth.enabled", "no", False),
        ("budget.max_monthly_eur", "12.50", 12.5),
        ("budget.max_monthly_eur", "null", None),
        ("integration.nats_version", "2.10", "2.10"),
        ("dns.domain", "1e3", "1e3"),
        ("registry.type", "none", "none"),
        ("machine.hetzner.location", "nbg1", "nbg1"),
        ("machine.hetzner.location", "fsn1, nbg1", ["fsn1", "nbg1"]),
        ("machine.hetzner.location", "[nbg1]", ["nbg1"]),
        ("machine.hetzner.server_type_fallback", "cx33", ["cx33"]),
        ("machine.hetzner.server_type_fallback", "[]", []),
        ("firewall.nats", "[2001:db8::/32, '192.0.2.0/24']", ["2001:db8::/32", "192.0.2.0/24"]),
        ("machine.ssh.key_path", "~/.ssh/mine", "~/.ssh/mine"),
    ],
)
def test_a_value_is_written_as_what_the_setting_holds(file: Path, key: str, text: str, value: Any) -> None:
    told("set", key, text)

    assert listed()[key] == (value, "file")


@pytest.mark.parametrize("secret", ["null-ish: #x", "'quoted'", "0123456789", "yes", "${NOT", "*a", " a "])
def test_a_password_is_written_to_the_letter(file: Path, secret: str) -> None:
    done = told("set", "registry.type", "local", "registry.password", secret)

    assert [each["value"] for each in done["settings"]] == ["local", "***"]
    assert told("get", "registry.password", "--show")["value"] == secret


def test_a_secret_can_be_piped_so_that_no_list_of_processes_shows_it(file: Path) -> None:
    done = config("set", "machine.hetzner.token", "-", typed=f"{SECRET}\n")

    assert (done.exit_code, SECRET in done.output) == (0, False)
    assert told("get", "machine.hetzner.token", "--show")["value"] == SECRET


@pytest.mark.parametrize("typed", ["", "\n"])
def test_an_empty_pipe_removes_no_secret(file: Path, typed: str) -> None:
    told("set", "registry.password", SECRET)

    done = config("set", "registry.password", "-", typed=typed)

    assert done.exit_code == 2
    assert "so nothing was changed" in done.output
    assert told("get", "registry.password", "--show")["value"] == SECRET


def test_variables_stay_as_written_whether_set_or_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX", "https://box.example/")

    told("set", "registry.url", "${BOX}", "registry.type", "storagebox", "registry.password", "${PASSWORD}")

    assert "url: ${BOX}\n" in file.read_text()
    assert "password: ${PASSWORD}\n" in file.read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["growth.max_nodes", "many"], "growth.max_nodes: Input should be a valid integer"),
        (["growth.max_nodes", "0"], "growth.max_nodes: Input should be greater than or equal to 1"),
        (["growth.max_nodes", "null"], "growth.max_nodes: Input should be a valid integer"),
        (["registry.type", "ftp"], "registry.type: Input should be 'storagebox', 's3', 'local' or 'none'"),
        (["registry.type", "s3"], "type s3 needs a url"),
        (["dns.ttl", "60", "growth.max_nodes", "0"], "growth.max_nodes"),
        (
            ["firewall.nats", "10.0.0.1,10.0.0.300/8"],
            "firewall.nats.1: Input is not a valid IPv4 network; Input is not a valid IPv6 network.",
        ),
        (["dns.ttl", "-5"], "dns.ttl: Input should be greater than or equal to 60."),
        (["budget.max_monthly_eur", "-0.5"], "budget.max_monthly_eur: Input should be greater than 0."),
    ],
)
def test_a_value_that_cannot_be_changes_nothing(file: Path, words: list[str], sentence: str) -> None:
    told("set", "dns.ttl", "90")
    before = file.read_text()

    said = refused("set", *words)

    assert said.startswith(f"morpheus: Nothing was changed: {file}: ")
    assert sentence in said
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("machine: {hetzner: {location: [5, 6]}}", "machine.hetzner.location.0: 5 is read as a number"),
        (
            "machine: {hetzner: {location: {a: 1}}}",
            "machine.hetzner.location: Input should be a valid string; ",
        ),
        ("firewall: {ssh: 10.0.0.0/8}", "firewall.ssh: Input should be a list, as in [a, b]."),
    ],
)
def test_what_is_wrong_in_a_file_is_named_by_its_place_there(file: Path, text: str, sentence: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)

    assert f"{file}: {sentence}" in refused("list")


def test_options_of_set_are_options_still() -> None:
    assert "Show this message" in config("set", "--help").stdout
    assert "--outptu is no setting" in refused("set", "--outptu", "json")


def test_a_size_that_is_none_is_refused_in_plain_words() -> None:
    done = CliRunner().invoke(app, ["plant", "cloud", "tiny"])

    assert (done.exit_code, "'tiny' is not one of" in done.stderr) == (2, True)
    assert "Value error" not in done.stderr


def test_a_key_without_a_value_is_refused(file: Path) -> None:
    assert "dns.domain has no value" in refused("set", "dns.ttl", "60", "dns.domain")


def test_what_was_wrong_before_is_named_and_can_be_set_right(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("growth: {max_nodes: many}  # wrong\n")
    assert "growth.max_nodes" in refused("set", "dns.ttl", "60")
    assert "growth.max_nodes" in refused("list")

    told("set", "growth.max_nodes", "7")

    assert file.read_text().split() == ["growth:", "{max_nodes:", "7}", "#", "wrong"]


@pytest.mark.parametrize("text", ["growth: [\n", "growth: 5\n", "- a\n", "5\n", "a: 1\na: 2\n", "\x00"])
def test_a_file_that_is_no_mapping_is_left_as_it_is(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)

    assert "Nothing was changed" in refused("set", "growth.max_nodes", "7")
    assert file.read_text() == text


def test_a_file_that_cannot_be_changed_is_not_quoted_for_it_may_hold_a_password(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("registry:\n  password: hunter2: x\n")

    assert "hunter2" not in refused("set", "growth.max_nodes", "7")


def test_who_wins_is_said_when_the_environment_does(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETZNER_API_TOKEN", "from-outside")

    done = config("set", "machine.hetzner.token", "from-file")

    assert "the environment wins" in done.stdout


def test_reading_commands_import_neither_prefect_nor_what_config_needs(file: Path) -> None:
    script = (
        "import sys\nfrom morpheus.cli import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app.app, ['list']).exit_code == 0\n"
        "print({'prefect', 'hcloud', 'ruamel', 'ruamel.yaml', 'morpheus.cli.configuring'} & {*sys.modules})"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"

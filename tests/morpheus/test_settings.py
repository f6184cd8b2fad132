"""Settings: where they are found, what stands in for variables, and that a mistake is named."""

from pathlib import Path

import pytest

from morpheus.errors import InvalidInputError
from morpheus.folders import cache_dir, config_path, data_dir
from morpheus.forest import MAX_NODES
from morpheus.settings import Settings, load
from morpheus.site import local_registry, shared_registry


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home in an empty working directory, named by no variable."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "MORPHEUS_CONFIG",
        "MORPHEUS_DATA_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def configured(text: str, **environment: str) -> Settings:
    Path("morpheus.yaml").write_text(text, encoding="utf-8")
    return load(environment)


def fault(text: str, **environment: str) -> str:
    with pytest.raises(InvalidInputError) as refused:
        configured(text, **environment)
    return str(refused.value)


# Where


def test_without_a_file_everything_has_its_default() -> None:
    assert config_path({}) is None
    assert load({}) == Settings()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_all_defaults(text: str) -> None:
    assert configured(text) == Settings()


def test_the_working_directory_comes_before_the_home(home: Path) -> None:
    below_home = home / ".config" / "morpheus" / "morpheus.yaml"
    below_home.parent.mkdir(parents=True)
    below_home.write_text("growth: {max_nodes: 7}")

    assert config_path({}) == below_home
    assert load({}).growth.max_nodes == 7
    assert configured("growth: {max_nodes: 5}").growth.max_nodes == 5


def test_the_configuration_folder_can_be_moved(tmp_path: Path) -> None:
    (tmp_path / "xdg" / "morpheus").mkdir(parents=True)
    (tmp_path / "xdg" / "morpheus" / "morpheus.yaml").write_text("growth: {max_nodes: 9}")

    assert load({"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).growth.max_nodes == 9


def test_a_named_file_comes_before_all(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("growth: {max_nodes: 3}")

    loaded = configured("growth: {max_nodes: 5}", MORPHEUS_CONFIG=str(tmp_path / "mine.yaml"))

    assert loaded.growth.max_nodes == 3


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match=r"MORPHEUS_CONFIG names nowhere\.yaml"):
        load({"MORPHEUS_CONFIG": "nowhere.yaml"})


def test_local_data_and_cache_can_be_moved_together(tmp_path: Path) -> None:
    environment = {"MORPHEUS_DATA_DIR": str(tmp_path / "data")}

    assert data_dir(environment) == tmp_path / "data"
    assert cache_dir(environment) == tmp_path / "data" / "cache"


def test_local_data_stand_below_the_home_and_their_path_is_absolute(home: Path) -> None:
    assert home in data_dir({}).parents
    assert data_dir({"MORPHEUS_DATA_DIR": "here"}) == Path.cwd() / "here"


# What


def test_values_of_every_part_are_read() -> None:
    loaded = configured(
        "machine: {provider: local, hetzner: {location: [fsn1, nbg1], server_type: cx33}}\n"
        "provisioning: {readiness_timeout: 90}\n"
        "integration: {nats_version: v2.12.1}\n"
    )

    assert loaded.machine.hetzner.location == ("fsn1", "nbg1")
    assert loaded.machine.provider == "local"
    assert loaded.provisioning.readiness_timeout == 90
    assert loaded.integration.nats_version == "v2.12.1"


def test_a_forest_may_grow_to_as_many_nodes_as_one_can_have() -> None:
    assert configured(f"growth: {{max_nodes: {MAX_NODES}}}").growth.max_nodes == MAX_NODES
    assert "growth.max_nodes" in fault(f"growth: {{max_nodes: {MAX_NODES + 1}}}")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("growth: {max_nodes: many}", "growth.max_nodes"),
        ("growth: {threshold_cpu: 101}", "growth.threshold_cpu"),
        ("growth: {threshold_storage: 0}", "growth.threshold_storage"),
        ("growth: {step: even}", "growth.step"),
        ("growth: {rebalance: all}", "growth.rebalance"),
        ("growth: {sustained_minutes: -1}", "growth.sustained_minutes"),
        ("growth: {sustained_minutes: .nan}", "growth.sustained_minutes"),
        ("growth: {cooldown_minutes: .inf}", "growth.cooldown_minutes"),
        ("provisioning: {readiness_interval: 0}", "provisioning.readiness_interval"),
        ("provisioning: {ssh_port: 6222}", "provisioning.ssh_port"),
        ("registry: {type: ftp}", "registry.type"),
        ("growth: 5", "growth"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file(text: str, key: str) -> None:
    assert fault(text).startswith(f"morpheus.yaml: {key}: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grwoth: {}", "grwoth is no setting: did you mean growth?"),
        ("growth: {max_node: 3}", "growth.max_node is no setting: did you mean max_nodes?"),
        (
            "machine: {hetzner: {server: cx23}}",
            "machine.hetzner.server is no setting: did you mean server_type?",
        ),
        ("dns: {zone: x}", "dns.zone is no setting: known are provider, domain, ttl."),
        ("dnss: {}", "dnss is no setting: did you mean dns?"),
        ("7: 8", "7: "),
        ("integration: {nats_version: 2.15}", "integration.nats_version: 2.15 is read as a number; "),
    ],
)
def test_what_was_meant_is_said(text: str, sentence: str) -> None:
    assert fault(text).startswith(f"morpheus.yaml: {sentence}")


def test_a_folder_in_the_place_of_the_file_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "morpheus.yaml").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidInputError, match=r"morpheus\.yaml cannot be read"):
        load({})


# Variables


def test_variables_stand_for_values_anywhere() -> None:
    loaded = configured(
        "registry: {type: storagebox, url: 'https://${BOX}/${FOLDER}/', username: '${BOX}'}\n"
        "growth: {max_nodes: '${MOST}'}\n"
        "machine: {hetzner: {server_type_fallback: ['${TYPE}']}}",
        BOX="u1.example",
        FOLDER="a",
        MOST="4",
        TYPE="cx33",
    )

    assert loaded.registry.url == "https://u1.example/a/"
    assert loaded.registry.username == "u1.example"
    assert loaded.growth.max_nodes == 4
    assert loaded.machine.hetzner.server_type_fallback == ("cx33",)


def test_a_variable_that_is_not_set_is_named_with_its_place() -> None:
    assert fault("registry: {password: '${SECRET}'}") == (
        "morpheus.yaml: registry: password needs the variable SECRET, which is not set."
    )


def test_what_a_variable_holds_is_taken_as_it_is() -> None:
    loaded = configured("registry: {username: '${A}'}", A="${B}: $1 \\1")

    assert loaded.registry.username == "${B}: $1 \\1"


@pytest.mark.parametrize("line", ["", "password: ", "password: null", "password: ''"])
def test_the_password_may_come_from_the_environment(line: str) -> None:
    text = f"registry:\n  type: storagebox\n  url: https://u1.example/\n  {line}\n"
    loaded = configured(text, STORAGEBOX_PASSWORD="from-outside")

    assert loaded.registry.password
    assert loaded.registry.password.get_secret_value() == "from-outside"


def test_the_password_of_a_storage_box_is_no_other_stores() -> None:
    text = "registry: {type: s3, url: 'https://s3.example/bucket/'}"

    assert configured(text, STORAGEBOX_PASSWORD="from-outside").registry.password is None


@pytest.mark.parametrize(
    "text", ["registry: {password: 90210}", "machine: {hetzner: {token: 90210}}"], ids=["password", "token"]
)
def test_a_secret_without_quotes_is_not_repeated(text: str) -> None:
    assert "put it in quotes" in fault(text)
    assert "90210" not in fault(text)


@pytest.mark.parametrize("variable", ["HETZNER_API_TOKEN", "HCLOUD_TOKEN"])
def test_the_token_of_the_environment_wins(variable: str) -> None:
    token = configured(
        "machine: {hetzner: {token: from-file}}", **{variable: "outside"}
    ).machine.hetzner.token

    assert token
    assert token.get_secret_value() == "outside"


def test_a_password_in_the_file_comes_first_and_is_not_shown() -> None:
    loaded = configured("registry: {password: from-file}", STORAGEBOX_PASSWORD="from-outside")

    assert loaded.registry.password
    assert loaded.registry.password.get_secret_value() == "from-file"
    assert "from-file" not in repr(loaded)


# Files that cannot be read


@pytest.mark.parametrize(
    "text", ["a: b: c", "growth: [", "\tgrowth: {}", "a: &a [*b]", "!!python/name:os.system"]
)
def test_what_is_no_yaml_is_refused_and_the_line_named(text: str) -> None:
    sentence = fault("# first line\n" + text)

    assert sentence.startswith("morpheus.yaml is no YAML: ")
    assert "line 2" in sentence


@pytest.mark.parametrize("password", ["hunter2: x", "*hunter2", "!hunter2", "@hunter2", '"hunter2'])
def test_a_broken_line_is_not_quoted_for_it_may_hold_a_password(password: str) -> None:
    assert "hunter2" not in fault(f"registry:\n  password: {password}\n")


@pytest.mark.parametrize("text", ["[]", "just words", "7"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert fault(text) == "morpheus.yaml is no mapping of keys to values."


def test_a_date_that_cannot_be_is_refused_not_a_crash() -> None:
    assert fault("growth: 2025-02-30").startswith("morpheus.yaml cannot be read: ")


def test_a_file_that_is_no_utf8_is_refused() -> None:
    Path("morpheus.yaml").write_bytes(b"growth: \xff")

    with pytest.raises(InvalidInputError, match=r"morpheus\.yaml cannot be read"):
        load({})


# Which registry


def test_without_a_registry_only_this_machines_forests_are_known(home: Path) -> None:
    assert shared_registry(load({})) is None
    assert local_registry().url == (data_dir() / "local.json").as_uri()


@pytest.mark.parametrize("kind", ["local", "none"])
def test_a_registry_of_this_device_is_another_file_than_the_local_forests(kind: str) -> None:
    shared = shared_registry(configured(f"registry: {{type: {kind}}}"))

    assert shared
    assert shared.url == (data_dir() / "registry.json").as_uri()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("registry: {type: storagebox}", "type storagebox needs a url"),
        ("registry: {type: s3}", "type s3 needs a url"),
        ("registry: {type: none, url: /tmp/x.json}", "type none has no url"),
        ("registry: {type: local, url: /tmp/x}", "a file that ends in .json"),
        ("machine: {hetzner: {location: []}}", "location names none"),
    ],
)
def test_an_address_stands_where_one_is_needed_and_nowhere_else(text: str, sentence: str) -> None:
    assert sentence in fault(text)


# Amounts


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("nats_cpu_quota", ["200%", "50%"]),
        ("nats_memory_high", ["1.5G", "512M", "1073741824"]),
        ("nats_memory_max", ["2G", "1T"]),
        ("jetstream_memory", ["1GB", "512MB", "1048576"]),
        ("jetstream_file", ["10GB", "1TB"]),
    ],
)
def test_amounts_are_written_as_those_who_obey_them_read_them(key: str, good: list[str]) -> None:
    for value in good:
        integration = configured(f"integration: {{{key}: '{value}'}}").integration

        assert getattr(integration, key) == value


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("nats_cpu_quota", "2", "write it as 200%, where 100% is one core"),
        ("nats_cpu_quota", "0%", "write it as 200%"),
        ("nats_memory_high", "80%", "write it as 1.5G, as 512M, or in bytes"),
        ("nats_memory_max", "2GB", "write it as 1.5G"),
        ("nats_memory_max", "2G\\nExecStartPre=/bin/sh", "write it as 1.5G"),
        ("jetstream_memory", "1G", "write it as 10GB, as 512MB, or in bytes"),
        ("jetstream_file", "75%", "write it as 10GB"),
        ("jetstream_file", "1.5GB", "write it as 10GB"),
    ],
)
def test_an_amount_that_nobody_would_read_is_refused(key: str, value: str, meant: str) -> None:
    said = fault(f'integration: {{{key}: "{value}"}}')

    assert f"integration.{key}: " in said
    assert meant in said

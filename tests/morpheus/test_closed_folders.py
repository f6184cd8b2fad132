"""Folders that are closed to the user, or gone: one sentence that names them, never a traceback."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from morpheus.cli import faults
from morpheus.errors import RegistryBrokenError
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from tests.morpheus.program import Device

Close = Callable[[Path], None]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    (tmp_path / "home" / "data").mkdir(parents=True)
    return Device(tmp_path / "home", tmp_path, {})


@pytest.fixture
def close() -> Iterator[Close]:
    """Close a folder to everybody, until the test is over."""
    closed: list[Path] = []

    def close(folder: Path) -> None:
        folder.chmod(0)
        closed.append(folder)

    yield close
    for folder in closed:
        folder.chmod(0o700)


@pytest.mark.parametrize(
    "command", ["list", "status", "connect", "plant local", "plant local --dry-run", "teardown oak --yes"]
)
def test_a_closed_data_folder_is_a_registry_that_cannot_be_read(
    device: Device, close: Close, command: str
) -> None:
    close(device.data)

    code, said = device.morpheus(*command.split())

    last = said.strip().splitlines()[-1]
    assert (code, "Traceback" in said) == (6, False), said
    assert last.startswith(f"morpheus: Cannot read the registry {device.data}/local.json: Permission denied.")
    assert last.endswith("its backups cannot be read either.")


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_closed_data_folder_is_named_by_up_and_down(device: Device, close: Close, command: str) -> None:
    close(device.data)

    code, said = device.morpheus(command)

    assert (code, "Traceback" in said, said.count("morpheus: ")) == (1, False, 1), said
    assert f"{device.data}/prefect" in said
    assert said.endswith("Permission denied.\n")


def test_a_closed_folder_of_settings_is_named(device: Device, close: Close) -> None:
    """It may hold settings that are meant: nothing goes on without them."""
    folder = device.home / ".config" / "morpheus"
    folder.mkdir(parents=True)
    close(folder)

    for command in ("list", "version", "config path", "plant local --dry-run"):
        code, said = device.morpheus(*command.split())

        assert (code, said.count("\n")) == (2, 1), said
        assert f"{folder}/morpheus.yaml is there (Permission denied)" in said


def test_a_closed_folder_of_the_file_that_is_named_is_named(device: Device, close: Close) -> None:
    folder = device.home / "mine"
    folder.mkdir()
    close(folder)
    told = replace(device, more={"MORPHEUS_CONFIG": str(folder / "my.yaml")})

    code, said = told.morpheus("list")

    assert (code, said.count("\n")) == (2, 1), said
    assert f"{folder}/my.yaml is there (Permission denied)" in said


READING = ("list", "version", "config path", "config list")


def shut(folder: Path) -> None:
    folder.chmod(0)


@pytest.mark.parametrize("lose", [shut, Path.rmdir])
def test_where_the_current_folder_is_closed_or_gone_reading_goes_on(
    device: Device, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    here = tmp_path / "here"
    here.mkdir()

    for command in READING:
        told = replace(
            device, here=here, more={"PATH": os.defpath}
        )  # on which our own program may be lacking
        code, said = told.morpheus(*command.split(), meanwhile=lambda: lose(here))

        assert (code, said) == (0, "")
        here.mkdir(exist_ok=True)
        here.chmod(0o700)


@pytest.mark.parametrize("command", ["plant local", "up"])
def test_prefect_is_not_started_in_a_current_folder_that_is_closed(
    device: Device, tmp_path: Path, close: Close, command: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()

    code, said = replace(device, here=here).morpheus(*command.split(), meanwhile=lambda: close(here))

    assert (code, said.count("morpheus: ")) == (2, 1), said
    assert said.endswith("run the command in another one.\n")


def test_a_data_folder_that_is_named_from_a_current_one_that_is_gone_has_no_place(
    device: Device, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    told = replace(device, here=here, more={"MORPHEUS_DATA_DIR": "data"})

    code, said = told.morpheus("list", meanwhile=here.rmdir)

    assert (code, said.count("\n")) == (2, 1), said
    assert "MORPHEUS_DATA_DIR names data" in said


def test_backups_that_nobody_can_list_are_not_taken_for_none(tmp_path: Path) -> None:
    """Else a registry that is gone would be begun anew over them."""
    (tmp_path / "local.json.backups").symlink_to("local.json.backups")  # a circle, for root as well

    with pytest.raises(RegistryBrokenError, match=r"local\.json\.backups"):
        Registry(LocalStore(tmp_path / "local.json")).read()


def faulty() -> typer.Typer:
    app = typer.Typer(cls=faults.Commands, pretty_exceptions_enable=False)

    @app.command()
    def divide() -> None:
        raise ZeroDivisionError("by zero")

    @app.callback()
    def several() -> None: ...

    return app


def test_a_fault_whose_log_cannot_stand_in_the_data_folder_is_written_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "file" / "data"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    done = CliRunner().invoke(faulty(), ["divide"])

    assert (done.exit_code, len(done.stderr.splitlines())) == (70, 1)
    (log,) = tmp_path.glob("morpheus-fault-*.log")
    assert done.stderr.endswith(f"the details are in {log}.\n")
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_fault_whose_log_can_stand_nowhere_is_one_sentence_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "file" / "data"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))

    done = CliRunner().invoke(faulty(), ["divide"])

    assert (done.exit_code, len(done.stderr.splitlines())) == (70, 1)
    assert done.stderr.endswith("set TMPDIR to a folder you may write to.\n")

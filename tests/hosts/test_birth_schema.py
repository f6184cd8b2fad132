"""What cloud-init and systemd of each base system say of what a machine is told, without booting one."""

import re
from pathlib import Path

import pytest

from morpheus.machine import cloudinit
from tests.lab import recipe
from tests.lab.bases import base
from tests.lab.commands import attempted
from tests.machine.births import BIRTHS

pytestmark = pytest.mark.root

MOST_EXPOSURE = 3.0
# In mounts that end with the program: what is to be judged, and programs for the units that name some.
INSIDE = """
set -eu
mount -t tmpfs tmpfs "$1/tmp"; mount -t tmpfs tmpfs "$1/opt"; mount -t proc proc "$1/proc"
cp -r "$2" "$1/tmp/told"
mkdir -p "$1/opt/nimsforest/bin"
for name in nats-server nimsforest forest; do cp "$1/bin/true" "$1/opt/nimsforest/bin/$name"; done
root=$1; shift 2
exec chroot "$root" env SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 "$@"
"""


@pytest.fixture(params=recipe.SUITES)
def root(request: pytest.FixtureRequest) -> Path:
    return base(str(request.param))


def ask(root: Path, told: Path, *argv: str) -> str:
    """What a program of the base system says of the folder *told*, which it finds as /tmp/told."""
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    done = attempted([*alone, "sh", "-c", INSIDE, "sh", str(root), str(told), *argv])
    return f"{done.returncode}: {done.stdout}{done.stderr}"


def units(folder: Path, kind: str) -> list[str]:
    """Write the units of a kind of machine into *folder*; where they are to be found."""
    for path, text in cloudinit.units(BIRTHS[kind]).items():
        (folder / path.rpartition("/")[2]).write_text(text)
    return sorted(f"/tmp/told/{path.name}" for path in folder.iterdir())


@pytest.mark.parametrize("kind", BIRTHS)
def test_cloud_init_takes_what_a_machine_is_told(root: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "user-data").write_text(cloudinit.render(BIRTHS[kind]))

    said = ask(root, tmp_path, "cloud-init", "schema", "-c", "/tmp/told/user-data")

    assert re.match(r"0: .*Valid", said, re.DOTALL), said
    assert "deprecated" not in said.lower()


def test_cloud_init_would_say_what_it_does_not_take(root: Path, tmp_path: Path) -> None:
    broken = cloudinit.render(BIRTHS["nats"]).replace("ssh_deletekeys: true", "ssh_deletekeys: [maybe]")
    (tmp_path / "user-data").write_text(broken)

    said = ask(root, tmp_path, "cloud-init", "schema", "-c", "/tmp/told/user-data")

    assert not said.startswith("0: "), said
    assert "ssh_deletekeys" in said


@pytest.mark.parametrize("kind", ["nats", "workload", "embedded"])
def test_systemd_finds_no_fault_with_the_units(root: Path, tmp_path: Path, kind: str) -> None:
    paths = units(tmp_path, kind)

    assert ask(root, tmp_path, "systemd-analyze", "verify", "--man=no", *paths) == "0: "


@pytest.mark.parametrize("kind", ["nats", "workload", "embedded"])
def test_no_unit_can_do_more_to_its_machine_than_it_must(root: Path, tmp_path: Path, kind: str) -> None:
    for path in units(tmp_path, kind):
        said = ask(root, tmp_path, "systemd-analyze", "security", "--offline=true", "--no-pager", path)
        told = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)

        assert told, said
        assert float(told[1]) < MOST_EXPOSURE

"""What a killed run leaves is cleared by the next one, and a living run's is left alone."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Lab, leftovers

pytestmark = pytest.mark.root

KILLED = """
import os, subprocess
from tests.lab import Lab
lab = Lab()
host = lab.host("oak-node-1")
host.boot()
host.run(["true"])
with lab.outside.entered():
    stray = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(host.place.run, host._process.pid, stray.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def found(name: str) -> list[str]:
    """Everything on the machine that bears a run's name."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    spaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    groups = [str(root / name) for root in leftovers.cgroup_roots() if (root / name).exists()]
    places = [str(path) for path in leftovers.FOLDER.glob(f"{name}*")]
    nspawn = [str(path) for path in leftovers.NSPAWN.rglob(f"{name}*")]
    return [line for line in (mounts + spaces).splitlines() if name in line] + groups + places + nspawn


def test_the_next_run_clears_what_a_killed_one_left(lab: Lab) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    name, *processes = ended.stdout.split()
    assert len(found(name)) > 5
    assert all(Path("/proc", pid).exists() for pid in processes)

    cleared = leftovers.clear_leftovers()

    assert name in cleared
    assert found(name) == []
    assert not any(Path("/proc", pid, "exe").exists() for pid in processes)
    assert lab.laptop.path.exists()
    assert name not in leftovers.clear_leftovers()


def test_a_closed_lab_leaves_nothing() -> None:
    lab = Lab()
    host = lab.host("oak-node-1")
    host.boot()
    name = host.place.run

    lab.close()

    assert found(name) == []

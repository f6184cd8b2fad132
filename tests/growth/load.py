"""Real load, made by programs of their own that end with the test, or by themselves when it is killed."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import nats
import psutil
from nats.js.api import StorageType, StreamConfig

from tests.flows.traffic import insist

LONGEST = 60  # seconds until a program ends by itself

_BURN = "import sys, time; end = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
_HOLD = (
    "import sys, time; held = b'x' * int(sys.argv[2]); print(len(held), flush=True); "
    "time.sleep(float(sys.argv[1]))"
)
_PUBLISH = """
import asyncio, sys, time, nats
async def main(seconds, url, size):
    client, end = await nats.connect(url), time.monotonic() + seconds
    print("connected", flush=True)
    while time.monotonic() < end:
        for _ in range(50):
            await client.publish("load", b"x" * size)
        await client.flush()
asyncio.run(main(float(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""


@contextlib.contextmanager
def burning(cores: int | None = None) -> Iterator[None]:
    """So many cores of this computer, or all of them, do nothing but burn."""
    with contextlib.ExitStack() as stack:
        for _ in range(cores or os.cpu_count() or 1):
            stack.enter_context(_running(_BURN))
        yield


@contextlib.contextmanager
def holding(size: int) -> Iterator[None]:
    """A program holds so many bytes of memory."""
    with _running(_HOLD, str(size), speaks=True):
        yield


@contextlib.contextmanager
def filling(folder: Path, size: int) -> Iterator[None]:
    """A file of so many bytes stands in *folder*."""
    with tempfile.TemporaryFile(dir=folder) as file:
        for begin in range(0, size, 2**20):
            file.write(b"x" * min(2**20, size - begin))
        file.flush()
        yield


@contextlib.contextmanager
def in_memory() -> Iterator[tuple[Path, int]]:
    """A folder on a file system in memory, and the bytes of all of that; one test at a time fills it."""
    disk = Path("/dev/shm")
    assert disk.is_dir(), "this test needs /dev/shm, which every Linux has"
    lock = filelock.FileLock(Path(tempfile.gettempdir(), f"morpheus-in-memory-{os.getuid()}.lock"))
    with lock, tempfile.TemporaryDirectory(dir=disk, prefix="morpheus-") as folder:
        yield Path(folder), psutil.disk_usage(folder).total


@contextlib.contextmanager
def publishing(url: str, *, size: int = 100) -> Iterator[None]:
    """A client publishes messages of so many bytes as fast as it can."""
    with _running(_PUBLISH, url, str(size), speaks=True):
        yield


@contextlib.contextmanager
def _running(script: str, *words: str, speaks: bool = False) -> Iterator[None]:
    argv = [sys.executable, "-c", script, str(LONGEST), *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as program:
        assert program.stdout
        try:
            if speaks:
                assert program.stdout.readline(), "it ended at once"
            yield
        finally:
            program.kill()


def fill(urls: Sequence[str], size: int, *, storage: str, reserved: int = 0) -> None:
    """Publish so many bytes into a stream on "file" or in "memory"; *reserved* is promised to it."""

    async def publish() -> None:
        client = await nats.connect(list(urls))
        stream = client.jetstream()
        config = StreamConfig(
            name="FILL", subjects=["fill"], storage=StorageType(storage), max_bytes=reserved or -1
        )
        await insist(lambda: stream.add_stream(config))
        for k in range(size // 500_000):
            body, known = os.urandom(500_000), {"Nats-Msg-Id": str(k)}
            await insist(lambda body=body, known=known: stream.publish("fill", body, headers=known))  # type: ignore[misc]
        await client.close()

    asyncio.run(publish())

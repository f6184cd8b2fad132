"""Streams as files: written from one server with their consumers, brought into a cluster, and compared there.

An archive is two files: what the server sent, and a manifest that tells what it is. The manifest is written
last, so an archive without one is none. Streams go one at a time and in chunks, so memory stays bounded
whatever they hold. Servers and traps: a restore begins before the way to its server is known everywhere,
a cluster that has just formed finds no place for streams yet, and tells positions of consumers late.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from morpheus.errors import MachineError, NotReadyError, RefusedError, UnreachableError
from morpheus.files import replace_file
from morpheus.nats.admin import LIST_TIMEOUT, ApiError, api
from morpheus.nats.beat import Beat, beating, silent
from morpheus.nats.holdings import Extent, Span, ages, differences, held, positions

CHUNK, WINDOW = 512 * 1024, 8 * 1024 * 1024  # bytes: of one message, and on their way at most
BEGIN_TIMEOUT = 120.0  # seconds until a server has looked through a stream and begins to send it
CHUNK_TIMEOUT = 30.0  # seconds between two chunks; the server itself waits five for an answer
END_TIMEOUT = 300.0  # seconds until a server that has all of a stream has built it
RESTORE_TIMEOUT = 60.0  # seconds until a cluster that has just formed has a place for a stream
SETTLE_TIMEOUT = 60.0  # seconds until copies are current and positions are told; six were seen
SETTLE_EACH = 0.05  # more seconds for each consumer; a thousand took twenty
WORDS = 300  # characters of what is wrong that are told: it may be wrong with thousands
AGED = 2.0  # seconds by which one server may be later than another to let a message expire
_NOT_YET = {10005, 10023, 10074}  # no suitable peers, insufficient resources, cannot replicate: for now
_NAME_TAKEN = {10058, 10130}  # "stream name already in use", and the same of a restore
_NO_STREAM = 10059
_WHOLE = {"", "204"}  # statuses of the message that ends a whole archive; 2.15.1 gives it none


@dataclass(frozen=True, slots=True)
class Archive:
    """One stream as it was: the file that holds it, how it is configured, what it held, who read it.

    ``state`` is the stream's as the server told it, which it wants back.
    """

    file: Path
    size: int
    sha256: str
    config: Mapping[str, Any]
    state: Mapping[str, Any]
    consumers: Mapping[str, Span]

    @property
    def stream(self) -> str:
        return str(self.config["name"])

    @property
    def extent(self) -> Extent:
        return Extent.of(self.state)


async def save(client: Client, stream: str, folder: Path, beat: Beat = silent) -> Archive:
    """Write *stream* with its consumers into *folder*, durably; an earlier archive of it goes.

    Raises:
        UnreachableError: the server ended before the archive was whole; it may be tried again.
        ApiError: the server will not, or found the stream damaged.
        MachineError: it cannot be written.
    """
    file = _file(folder, stream)
    _manifest(file).unlink(missing_ok=True)
    before = await positions(client, stream)
    with _writer(file) as writer:
        begun = await _receive(client, stream, writer, beat)
    after = await positions(client, stream)
    consumers = {name: Span(before.get(name, now), now) for name, now in after.items()}
    archive = Archive(file, writer.size, writer.sha256, begun["config"], begun["state"], consumers)
    try:
        replace_file(_manifest(file), json.dumps(_described(archive)).encode())
    except OSError as error:
        raise MachineError(f"Cannot write {_manifest(file)}: {error.strerror or error}.") from error
    return archive


async def _receive(client: Client, stream: str, writer: "_Writer", beat: Beat) -> Mapping[str, Any]:
    """Have the server send *stream*, and take all of it; what it told of the stream."""
    inbox = client.new_inbox()
    chunks: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await client.subscribe(inbox, cb=chunks.put, pending_bytes_limit=4 * WINDOW)
    body = {
        "deliver_subject": inbox,
        "no_consumers": False,
        "chunk_size": CHUNK,
        "window_size": WINDOW,
        "jsck": True,
    }
    try:
        await client.flush()
        asked = api(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", body, timeout=BEGIN_TIMEOUT)
        begun: Mapping[str, Any] = await beating(beat, asked)
        last = 0
        while not _is_end(stream, chunk := await _next(stream, chunks)):
            last = _in_order(stream, chunk, last)
            writer.add(chunk.data)
            beat()
            if chunk.reply:
                await client.publish(chunk.reply, b"")
    except nats.errors.Error as error:
        raise UnreachableError(f"The archive of {stream} broke off: {error}.") from error
    else:
        return begun
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _next(stream: str, chunks: asyncio.Queue[Msg]) -> Msg:
    try:
        return await asyncio.wait_for(chunks.get(), CHUNK_TIMEOUT)
    except TimeoutError as error:
        raise UnreachableError(
            f"The archive of {stream} broke off: nothing came for {CHUNK_TIMEOUT:.0f} s."
        ) from error


def _is_end(stream: str, chunk: Msg) -> bool:
    """Whether *chunk* says that all was sent.

    Raises:
        UnreachableError: it says that the server gave up.
    """
    if chunk.data or chunk.reply:
        return False
    headers = chunk.headers or {}
    if headers.get("Status", "") not in _WHOLE:
        said = " ".join(str(each) for each in headers.values())
        raise UnreachableError(f"The archive of {stream} broke off: the server said {said}.")
    return True


def _in_order(stream: str, chunk: Msg, last: int) -> int:
    """The number of *chunk*, which follows *last*; the last one of all may have none."""
    if not chunk.reply:
        return last
    number = int(chunk.reply.rsplit(".", 1)[1])
    if number != last + 1:
        raise UnreachableError(f"The archive of {stream} broke off: part {number} came after part {last}.")
    return number


def saved(folder: Path) -> tuple[Archive, ...]:
    """The archives in *folder* that were written whole, by the names of their streams.

    Raises:
        MachineError: one cannot be read.
    """
    found = [_read(manifest) for manifest in folder.glob("*.json")]
    return tuple(sorted(found, key=lambda archive: archive.stream))


def _read(manifest: Path) -> Archive:
    try:
        told = json.loads(manifest.read_text())
        spans = {name: Span.of(span) for name, span in told["consumers"].items()}
        file = manifest.with_suffix(".stream")
        return Archive(file, told["size"], told["sha256"], told["config"], told["state"], spans)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError(f"The archive {manifest} cannot be read: {error}.") from error


def _described(archive: Archive) -> Mapping[str, Any]:
    return {
        "size": archive.size,
        "sha256": archive.sha256,
        "config": archive.config,
        "state": archive.state,
        "consumers": {name: span.text() for name, span in archive.consumers.items()},
    }


async def restore(client: Client, archive: Archive, replicas: int, beat: Beat = silent) -> None:
    """Bring the stream of *archive* with its consumers into the cluster, with so many *replicas*.

    Raises:
        RefusedError: the cluster has a stream of that name.
        MachineError: the file is not what was written; nothing was sent.
        ApiError: the cluster will not.
        NotReadyError: it had no place for the stream in time.
        UnreachableError: it ended in the middle; what there is of the stream has to be deleted.
    """
    check_whole(archive, beat)
    inbox = await _begun(client, archive, replicas, beat)
    first = True
    for chunk in _chunks(archive.file):
        answer = await _sent(client, archive.stream, inbox, chunk, patient=first)
        first = False
        beat()
    answer = await beating(beat, _sent(client, archive.stream, inbox, b"", patient=first))
    if not answer.get("config"):
        raise UnreachableError(f"The cluster did not say whether {archive.stream} was restored.")


async def _begun(client: Client, archive: Archive, replicas: int, beat: Beat) -> str:
    """Where the cluster wants the chunks of *archive*."""
    config = {**archive.config, "num_replicas": replicas}
    if replicas > 1:
        config.pop("persist_mode", None)  # one that writes later than it says is only for single copies
    body = {"config": config, "state": archive.state}
    deadline, silent = time.monotonic() + RESTORE_TIMEOUT, False
    while True:
        try:
            begun = await api(client, f"$JS.API.STREAM.RESTORE.{archive.stream}", body, timeout=LIST_TIMEOUT)
            return str(begun["deliver_subject"])
        except UnreachableError as error:
            silent, seen = True, str(error)
        except ApiError as error:
            if error.err_code in _NAME_TAKEN and silent:
                await delete(client, archive.stream)  # what our own request, which got no answer, began
            elif error.err_code in _NAME_TAKEN:
                raise RefusedError(f"The new cluster has a stream {archive.stream} already.") from error
            elif error.err_code not in _NOT_YET:
                raise
            seen = str(error)
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"The cluster had no place for {archive.stream} within {RESTORE_TIMEOUT:.0f} s; last seen: "
                f"{seen}."
            )
        beat()
        await asyncio.sleep(0.2)


async def _sent(client: Client, stream: str, inbox: str, chunk: bytes, *, patient: bool) -> Mapping[str, Any]:
    """Send *chunk*, and return what the cluster says to it.

    As long as the way to the restoring server is not known here, nothing is delivered: *patient*, it is
    sent again. Of a later chunk nobody knows, and one that came twice would spoil the stream.
    """
    deadline = time.monotonic() + LIST_TIMEOUT
    while True:
        try:
            answer = await client.request(inbox, chunk, timeout=CHUNK_TIMEOUT if chunk else END_TIMEOUT)
            break
        except nats.errors.NoRespondersError as error:
            if not patient or time.monotonic() > deadline:
                raise UnreachableError(f"Restoring {stream} broke off: nobody takes its parts.") from error
            await asyncio.sleep(0.05)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnreachableError(
                f"Restoring {stream} broke off: {error or type(error).__name__}."
            ) from error
    said: Mapping[str, Any] = json.loads(answer.data) if answer.data else {}
    if said.get("error"):
        raise ApiError(f"Restoring {stream}", said["error"])
    return said


async def delete(client: Client, stream: str) -> None:
    """Delete *stream*, if there is one."""
    try:
        await api(client, f"$JS.API.STREAM.DELETE.{stream}", timeout=LIST_TIMEOUT)
    except ApiError as error:
        if error.err_code != _NO_STREAM:
            raise


async def check_restored(  # noqa: PLR0913, PLR0917  # each one is a fact of the comparison
    client: Client,
    archives: Sequence[Archive],
    replicas: int,
    old: Client | None = None,
    beat: Beat = silent,
    timeout: float = SETTLE_TIMEOUT,  # noqa: ASYNC109  # of the wait for each
) -> None:
    """Return when each of *archives* is in the cluster as it was saved, with all its copies.

    From some streams time takes messages: those are compared with what the *old* server still has of them.

    Raises:
        NotReadyError: one is not within *timeout* seconds, and more for many consumers; says in what.
    """
    for archive in archives:
        patience = timeout + len(archive.consumers) * SETTLE_EACH
        deadline = time.monotonic() + patience
        while wrong := await _wrong(client, archive, replicas, old):
            beat()
            if time.monotonic() > deadline:
                raise NotReadyError(
                    f"The stream {archive.stream} did not come to be what it was within {patience:.0f} s; "
                    f"last seen: {wrong[:WORDS]}."
                )
            await asyncio.sleep(0.1)
        beat()


async def _wrong(client: Client, archive: Archive, replicas: int, old: Client | None) -> str:
    """In what the restored stream differs from *archive*; empty when in nothing."""
    try:
        found, later = await held(client, archive.stream, archive.consumers), None
        if found.copies != replicas:
            return f"{found.copies} of {replicas} copies current"
        faults = list(differences(archive.extent, archive.consumers, found))
        if faults and old and ages(archive.config):
            await asyncio.sleep(AGED)
            later = await held(old, archive.stream, archive.consumers)
            faults = list(differences(archive.extent, archive.consumers, found, later))
    except (ApiError, UnreachableError) as error:
        return str(error)
    return ", ".join(faults)


def check_whole(archive: Archive, beat: Beat = silent) -> None:
    """Return when the file of *archive* is what was written.

    Raises:
        MachineError: it is not.
    """
    size, digest = 0, hashlib.sha256()
    for chunk in _chunks(archive.file):
        size += len(chunk)
        digest.update(chunk)
        beat()
    if (size, digest.hexdigest()) != (archive.size, archive.sha256):
        raise MachineError(f"The archive {archive.file} of {archive.stream} is not what was written there.")


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                yield chunk
    except OSError as error:
        raise MachineError(f"Cannot read {file}: {error.strerror or error}.") from error


def _file(folder: Path, stream: str) -> Path:
    """Where *stream* stands; its own name may be longer than a file's may be."""
    return folder / f"{hashlib.sha256(stream.encode()).hexdigest()[:32]}.stream"


def _manifest(file: Path) -> Path:
    return file.with_suffix(".json")


class _Writer:
    """A file that grows, and what is in it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._digest = descriptor, hashlib.sha256()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._digest.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def _writer(file: Path) -> Iterator[_Writer]:
    """Write *file* beside its place, and move it there when all of it is on the disk."""
    new = file.with_suffix(".new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            yield _Writer(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(file)
    except OSError as error:
        raise MachineError(f"Cannot write {file}: {error.strerror or error}.") from error
    finally:
        new.unlink(missing_ok=True)

"""A registry in a bucket of an S3 endpoint: one object, replaced only while it is the one that was read.

Safety is the endpoint's: of two writes under the same condition (no object yet, or the ETag that was read)
it accepts one. Before the first write a probe proves that it does, and the proof is recorded in the bucket.

The object's metadata carries a ledger: the number of this state, the numbers of those kept as backups, and
the ids of the last writes. By the ids a write whose answer was lost, or was repeated on its way, is found to
have happened, also when others wrote since; nothing depends on a clock or on when a request ends.
"""

import contextlib
import json
import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from threading import Barrier

from morpheus.errors import (
    InvalidInputError,
    RegistryBrokenError,
    RegistryConflictError,
    StoreBusyError,
    TransientError,
)
from morpheus.registry import BESIDE, KEPT_BACKUPS, RESTORE, Backup, Snapshot
from morpheus.registry.bucket import Bucket, place

log = logging.getLogger("morpheus.registry")

REMEMBERED = 20  # ids of writes in a ledger: metadata holds 2 KB at most
MECHANISM = "morpheus.store/mechanism.json"
ROUNDS, RACERS = 3, 3  # of the probe; SeaweedFS 4.16 let three create one object at once


def document_url(text: str) -> str:
    """The URL of the document that *text* means, with the bucket in its path.

    Raises:
        InvalidInputError: it names no document in a bucket.
    """
    found = place(text)
    named = f"?region={found.region}" if place(found.url).region != found.region else ""
    return found.url + named


@dataclass(frozen=True, slots=True)
class Ledger:
    """What stands beside a text. ``serial`` counts the states; ``kept`` are those with a backup.

    Both and ``writes``, the ids of the last writes, are in order, newest last. ``removed`` says that there is
    no text: no endpoint of today deletes an object under a condition, so one that is gone stays as a mark.
    """

    serial: int
    kept: tuple[int, ...] = ()
    writes: tuple[str, ...] = ()
    removed: bool = False

    def next(self, write: str, *, backup: bool) -> "Ledger":
        kept = (*self.kept, self.serial) if backup else self.kept
        return Ledger(self.serial + 1, kept[-KEPT_BACKUPS:], (*self.writes, write)[-REMEMBERED:])

    def gone(self, write: str) -> "Ledger":
        return replace(self.next(write, backup=False), kept=(), removed=True)

    def encoded(self) -> str:
        raw = {name: value for name, value in asdict(self).items() if name != "removed" or value}
        return json.dumps(raw, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class State:
    """The object as it was read; ``ledger`` is None where none of us wrote it."""

    body: bytes | None = None
    etag: str | None = None
    ledger: Ledger | None = None

    @property
    def version(self) -> str | None:
        """Of the text; None where there is none, be it that an object says so."""
        return None if self.ledger and self.ledger.removed else self.etag

    @property
    def text(self) -> bytes | None:
        return None if self.version is None else self.body

    @property
    def writes(self) -> tuple[str, ...]:
        return self.ledger.writes if self.ledger else ()


class S3Store:
    """The store at *url*, a document (``name`` None) or another one beside it.

    Args:
        url: the document's, as :func:`document_url` returns it.
        username: the access key id.
        password: the secret access key.
        name: of a document beside it, such as ``secrets/oak``.

    Raises:
        InvalidInputError: the URL or the access key is missing or cannot be.
    """

    def __init__(self, url: str, username: str | None, password: str | None, name: str | None = None) -> None:
        where = place(url)
        if not username or not password:
            raise InvalidInputError(
                "A registry in S3 needs an access key: set registry.username (its id) and registry.password "
                "(its secret)."
            )
        self._folder = where.key[: where.key.rfind("/") + 1]
        self._where = replace(where, key=f"{self._folder}{name}.json") if name else where
        self._key = self._where.key
        self._bucket = Bucket(self._where, username, password)
        self._state: State | None = None  # what was read or written last: what the next write replaces
        self._proven = self._swept = False

    @property
    def url(self) -> str:
        return self._where.url

    def read(self) -> Snapshot:
        state = self._look()
        try:
            text = None if state.text is None else state.text.decode()
        except UnicodeDecodeError as error:
            raise RegistryBrokenError(f"The registry {self.url} is no UTF-8 text: {error}.") from error
        return Snapshot(text, state.version, self._bucket.now())

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        del over  # the document is the object itself: whatever stands in it is its newest version
        self._prove()
        before = self._expected(expected)
        backup = backup and before.text is not None
        ledger = before.ledger or self._new_ledger()
        if backup and before.text is not None:
            self._bucket.put(self._backup(ledger.serial), before.text)
        write = uuid.uuid4().hex[:16]
        after = ledger.next(write, backup=backup)
        version = self._commit(State(text.encode(), before.etag, after), write)
        self._state = State(text.encode(), version, after)
        if backup:
            self._prune(ledger, after)
        return version

    def remove(self, expected: str) -> None:
        before = self._expected(expected)
        if before.version is None:
            raise self._conflict()
        write = uuid.uuid4().hex[:16]
        after = (before.ledger or self._new_ledger()).gone(write)
        self._commit(State(f"removed by {write}\n".encode(), before.etag, after), write)
        self._state = None
        for number in self._numbers():
            self._bucket.delete(self._backup(number))

    def _expected(self, version: str | None) -> State:
        """What stands there, when the text has that *version*."""
        state = self._state
        if state is None or state.version != version:
            state = self._look()
        if state.version != version:
            raise self._conflict()
        return state

    def turn(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def beside(self) -> Sequence[str]:
        keys = (f"{kind}/{name}" for kind in BESIDE for name in self._names(kind))
        return [key.removesuffix(".json") for key in keys if key.endswith(".json") and self._is_there(key)]

    def _names(self, folder: str) -> Sequence[str]:
        return sorted(self._bucket.names(f"{self._folder}{folder}"))

    def _is_there(self, name: str) -> bool:
        found = self._bucket.get(self._folder + name)
        ledger = _ledger(found.note) if found else None
        return found is not None and not (ledger and ledger.removed)

    def foreign(self) -> str | None:
        return None

    def backups(self) -> Sequence[Backup]:
        ledger = self._look().ledger
        found: list[Backup] = []
        for number in reversed(ledger.kept if ledger else self._numbers()):
            if backup := self._bucket.get(self._backup(number)):
                where = replace(self._where, key=self._backup(number)).url
                text = backup.body.decode(errors="replace")
                found.append(Backup(where, text, f"{RESTORE} {len(found) + 1}"))
        return found

    def _look(self) -> State:
        found = self._bucket.get(self._key)
        self._state = State(found.body, found.etag, _ledger(found.note)) if found else State()
        return self._state

    def _conflict(self) -> RegistryConflictError:
        return RegistryConflictError(f"Another writer changed {self.url} at the same time.")

    # Writing

    def _commit(self, wanted: State, write: str) -> str:
        """Put *wanted* in place of the version it names, and return its own."""
        body, note = wanted.body or b"", wanted.ledger.encoded() if wanted.ledger else ""
        reason = None
        try:
            if wanted.etag is None:
                made = self._bucket.create(self._key, body, note)
            else:
                made = self._bucket.replace(self._key, body, wanted.etag, note)
            if made:
                return made
        except TransientError as error:
            reason = error
        return self._settle(wanted, write, reason)

    def _settle(self, wanted: State, write: str, reason: TransientError | None) -> str:
        """Return when *wanted* stands there although no answer, or a refusal, came back.

        Whoever repeats a write on its way, as proxies do, turns the answer to one that happened into a
        refusal.

        Raises:
            RegistryConflictError: it does not, and never did.
            TransientError: it may still come, or it cannot be known.
        """
        found = self._look()
        if found.etag and found.writes[-1:] == (write,):
            return found.etag
        if write in found.writes:
            raise StoreBusyError(f"{self.url} was written, and changed again by others; read it anew.")
        if found.etag == wanted.etag:
            raise reason or StoreBusyError(f"{self.url} could not be written for now; try again.")
        serial = wanted.ledger.serial if wanted.ledger else 0
        if reason and not (found.ledger and 0 <= found.ledger.serial - serial < REMEMBERED):
            raise reason
        raise self._conflict()

    # Backups

    def _new_ledger(self) -> Ledger:
        """The ledger of a text that has none: the first one, or what another program put there."""
        kept = self._numbers()
        return Ledger(kept[-1] + 1 if kept else 1, tuple(kept[-KEPT_BACKUPS:]))

    def _backup(self, number: int) -> str:
        return f"{self._key}.backups/{number:08}.json"

    def _numbers(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._bucket.names(f"{self._key}.backups"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _prune(self, before: Ledger, after: Ledger) -> None:
        """Remove the backup that is one too many; once also those that writers left who lost or died."""
        with contextlib.suppress(TransientError, RegistryBrokenError):
            old = before.kept if self._swept else self._numbers()
            for number in old:
                if number < after.serial and number not in after.kept:
                    self._bucket.delete(self._backup(number))
            self._swept = True

    # The proof

    def _prove(self) -> None:
        """Make sure that the endpoint was probed, by whichever device.

        Raises:
            RegistryBrokenError: it does not keep its promise.
        """
        if self._proven:
            return
        found = self._bucket.get(self._folder + MECHANISM)
        proven = _endpoints(found.body if found else b"")
        if self._where.endpoint not in proven:  # a bucket that was copied elsewhere proves nothing there
            if fault := probe(self._bucket, self._folder):
                raise RegistryBrokenError(
                    f"The endpoint of {self.url} can keep no registry: {fault}. Use one whose conditional "
                    "writes work (If-None-Match and If-Match of PutObject), or registry.type: storagebox."
                )
            record = json.dumps({"conditional": [*proven, self._where.endpoint]})
            self._bucket.put(self._folder + MECHANISM, record.encode())
        self._proven = True


def _ledger(note: str) -> Ledger | None:
    try:
        raw = json.loads(note)
        kept = tuple(int(number) for number in raw["kept"])
        return Ledger(int(raw["serial"]), kept, tuple(map(str, raw["writes"])), raw.get("removed") is True)
    except (ValueError, KeyError, TypeError):
        return None


def _endpoints(record: bytes) -> list[str]:
    """The endpoints that a record calls proven; none where it cannot be read."""
    try:
        return [str(each) for each in json.loads(record)["conditional"]]
    except (ValueError, KeyError, TypeError):
        return []


def probe(bucket: Bucket, folder: str) -> str | None:
    """Find out what the endpoint does wrong, on objects that are gone afterwards; None where nothing."""
    name = f"{folder}morpheus-probe-{uuid.uuid4().hex}"
    keys = [f"{name}/{k}" for k in range(ROUNDS + 1)]
    try:
        return _one_by_one(bucket, keys[0]) or _at_once(bucket, keys[1:])
    finally:
        with contextlib.suppress(TransientError, RegistryBrokenError):
            for key in keys:
                bucket.delete(key)


def _one_by_one(bucket: Bucket, key: str) -> str | None:
    wrong = f'"{"0" * 32}"'
    created = bucket.create(key, b"first")
    created_again = bucket.create(key, b"second")
    replaced_other = bucket.replace(key, b"second", wrong)
    replaced = bucket.replace(key, b"second", created or wrong)
    replaced_again = bucket.replace(key, b"third", created or wrong)
    found = bucket.get(key)
    faults = {
        "it does not create an object that is not there": not created,
        "it creates an object that is there already": created_again,
        "it replaces an object whose ETag is another one": replaced_other,
        "it does not replace an object whose ETag is the right one": not replaced,
        "it replaces an object whose ETag was right before": replaced_again,
        "it does not return what was written last": not found
        or (found.body, found.etag) != (b"second", replaced),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def _at_once(bucket: Bucket, keys: Sequence[str]) -> str | None:
    """Let several create, then replace, one object at the same time."""
    for key in keys:
        created = _race(bucket, key, None)
        if not created:
            return f"it lets several of {RACERS} writers create one object at once"
        if not _race(bucket, key, created):
            return f"it lets several of {RACERS} writers replace one object at once"
    return None


def _race(bucket: Bucket, key: str, etag: str | None) -> str | None:
    """The ETag of the one writer that won; None where there were several, or another's bytes stand there.

    Raises:
        StoreBusyError: none won.
    """
    barrier = Barrier(RACERS)

    def write(k: int) -> str | None:
        barrier.wait()
        body = f"{etag} {k}".encode()
        with contextlib.suppress(StoreBusyError):  # collided within the endpoint
            return bucket.replace(key, body, etag) if etag else bucket.create(key, body)
        return None

    with ThreadPoolExecutor(RACERS) as pool:
        won = [made for made in pool.map(write, range(RACERS)) if made]
    if not won:
        raise StoreBusyError("The endpoint answered none of several writes; try again.")
    found = bucket.get(key)
    return won[0] if found and won == [found.etag] else None

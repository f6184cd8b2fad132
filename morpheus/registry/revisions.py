"""A registry on a WebDAV server such as a Storage Box: revisions that can be made only once.

Beside the document ``registry.json`` stand ``registry.versions/N/``, one collection per revision: each is
prepared under a name of its own and moved into place with ``Overwrite: F``, so that of any number of writers
one makes revision N, whoever sleeps, stalls or dies. The highest number is the truth. ``registry.json`` is
the copy that other programs read; it is published after each commit.

Nothing here depends on a lock, a clock or the end of a request. A lock only lets writers take turns.
"""

import contextlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from morpheus.errors import (
    RegistryBrokenError,
    RegistryConflictError,
    ReloadError,
    StoreBusyError,
    TransientError,
    UnwrittenError,
)
from morpheus.registry import RESTORE, Backup, Snapshot
from morpheus.registry.dav import Dav, MissingCollectionError, fresh_name
from morpheus.registry.revision import REMEMBERED, Revision, as_text, digest, in_steps
from morpheus.registry.turns import Turns

log = logging.getLogger("morpheus.registry")

KEPT_REVISIONS = 20  # below the newest, for who is in the middle of reading one
STALE = 20  # revisions that the published copy may be behind before a person hears of it
LISTING_TRIES = 20  # of a look at revisions that others prune meanwhile
EMPTY_PAUSE, LONGEST_PAUSE = 0.01, 0.64  # seconds until an empty one is looked at again; 9 s in all


@dataclass(slots=True)
class Look:
    """What was seen when the store was last looked at."""

    newest: Revision
    numbers: Mapping[int, str]
    now: datetime
    published: str | None = None
    etag: str | None = field(default=None)


class Revisions:
    """The mechanism for servers that move a collection into place only once.

    Args:
        dav: the server.
        name: of the document, below the server's base and without ``.json``.
        published: whether the text also stands where other programs read it, and may change it.
        turns: whether the server has locks by which writers take turns.
        proven: whether it is known to move and to write by rename(2), so that a MOVE that succeeded needs no
            second look, and an upload is there as a whole or not at all.
    """

    def __init__(self, dav: Dav, name: str, *, published: bool, turns: bool, proven: bool) -> None:
        self._dav, self._name, self._is_published, self._proven = dav, name, published, proven
        # What is locked is the published copy, or a name beside what has none.
        self._turns = Turns(dav, f"{name}.json" if published else f"{name}.turn", locks=turns)
        self._has_turns = turns
        # Revisions never change, so the newest one is read once; beside it stands the time of its making.
        self._known: tuple[str, Revision] | None = None
        self._look: Look | None = None
        self._swept = self._warned = self._is_there = False

    @property
    def url(self) -> str:
        return self._dav.url(f"{self._name}.json")

    def named(self, name: str) -> "Revisions":
        """The same for another document, which nobody else reads."""
        return Revisions(self._dav, name, published=False, turns=self._has_turns, proven=self._proven)

    def read(self) -> Snapshot:
        self._look = look = self._looked()
        return Snapshot(look.newest.text, self._version(look.newest), look.now)

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        look = self._expected(expected)
        base = look.newest
        if self._is_foreign(look) and look.published != over:
            raise RegistryBrokenError(
                f"Another program changed {self.url}, so nothing is written: look at both with morpheus "
                "registry show and show --published, then take its change over with morpheus registry adopt, "
                "or put ours back with morpheus registry restore."
            )
        if base.number == 0 and base.text is not None:  # what stood there becomes the first revision
            base = Revision(0, None).next(base.text, backup=False)
            self._commit(base, look)
        made = base.next(text, backup=backup)
        after = self._commit(made, look)
        if after.newest.number == made.number:  # else whoever made that one publishes it
            self._publish(made, look)
        self._prune(made, after)
        return self._version(made) or ""

    def remove(self, expected: str) -> None:
        """Make a revision that holds nothing, and remove all others; the numbers go on from there.

        A collection that begins anew at 1 would let a writer that slept bring back what it had read.
        """
        look = self._expected(expected)
        if look.newest.text is None:
            raise RegistryConflictError(f"Another writer removed {self.url} at the same time.")
        gone = look.newest.next(None, backup=False)
        after = self._commit(gone, look)
        for number in {*look.numbers, *after.numbers}:
            if number < gone.number:
                self._discard(f"{self._name}.versions/{number}", patiently=True)

    def _expected(self, version: str | None) -> Look:
        """What was seen when the document had that *version*, which it still has as far as is known."""
        look, self._look = self._look, None  # after a write, what stands there has to be seen anew
        if look is None or self._version(look.newest) != version:
            look = self._looked()
        if self._version(look.newest) != version:
            raise RegistryConflictError(f"Another writer changed {self.url} at the same time.")
        return look

    def backups(self) -> Sequence[Backup]:
        found: list[Backup] = []
        for number in reversed(self._newest().newest.kept):
            try:
                revision = self._revision(number)
            except RegistryBrokenError:
                revision = Revision(number, "")  # what it held is lost, and a check says so
            if revision and revision.text is not None:
                where, command = self._dav.url(self._file(number)), f"{RESTORE} {len(found) + 1}"
                found.append(Backup(where, revision.text, command))
        return found

    def foreign(self) -> str | None:
        look = self._looked()
        return look.published if self._is_foreign(look) else None

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Keep other writers waiting, if the server can; no revision relies on it.

        What is locked is the published copy, so that no other program changes it between our look and our
        upload, either.
        """
        return self._turns.taken(safe=self._proven or self._is_there or not self._is_published)

    # Looking

    def _looked(self) -> Look:
        """The newest revision, and the published copy, which is brought up to date where it is older."""
        look = self._newest()
        before: str | None = None
        for _ in range(LISTING_TRIES if self._is_published else 0):
            answer = self._dav.get(f"{self._name}.json")
            look.published = as_text(answer.body) if answer.found else None
            look.etag, self._is_there = answer.etag, answer.found
            if look.newest.number == 0:
                look.newest = Revision(0, look.published)
            if not self._is_foreign(look):
                break
            again = self._newest()  # it may be newer than what we had listed
            settled = again.newest.number == look.newest.number
            if settled and look.published == before:  # Apache cuts a file that grows while it is being read
                self._warn()
                break
            before, look = look.published, again
        if self._is_published and look.newest.number and not self._is_foreign(look):
            self._publish(look.newest, look)
        return look

    def _warn(self) -> None:
        if not self._warned:
            log.warning(
                "%s holds a text that is not ours, so nothing is written: morpheus registry check",
                self.url,
            )
            self._warned = True

    def _newest(self) -> Look:
        seen: set[int] = set()
        pause = EMPTY_PAUSE
        for _ in range(LISTING_TRIES):
            numbers, now = self._numbers()
            if not numbers:
                return Look(Revision(0, None), numbers, now)
            number = max(numbers)
            known = self._known  # another thread may replace it
            if known and known[1].number == number and known[0] == numbers[number]:
                return Look(known[1], numbers, now)
            if newest := self._revision(number):  # else it was pruned meanwhile, by many commits
                self._known = (numbers[number], newest)
                return Look(newest, numbers, now)
            if number in seen:  # a server that moves file by file may not be done
                if pause == LONGEST_PAUSE / 2:  # once
                    log.info("revision %d of %s is there, but empty: looking again", number, self.url)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            seen.add(number)
        if len(seen) == 1:
            raise RegistryBrokenError(self._unreadable(seen.pop(), "there is nothing in it"))
        raise StoreBusyError(f"{self.url} changes faster than it can be read; try again.")

    def _unreadable(self, number: int, reason: str) -> str:
        return (
            f"The newest revision {self._dav.url(self._file(number))} cannot be read ({reason}): remove its "
            "folder, then take its text from the published copy with morpheus registry adopt, where that is "
            "still whole."
        )

    def _numbers(self) -> tuple[Mapping[int, str], datetime]:
        """The revisions there are, each with the time of its making: a number alone may come back."""
        there, now = self._dav.children(f"{self._name}.versions/")
        return {int(name): made for name, made in (there or {}).items() if name.isdecimal()}, now

    def _revision(self, number: int) -> Revision | None:
        answer = self._dav.get(self._file(number))
        if not answer.found:
            return None
        try:
            raw = json.loads(answer.body)
            return Revision(number, raw["text"], tuple(raw["past"]), tuple(raw["kept"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RegistryBrokenError(self._unreadable(number, type(error).__name__)) from error

    def _is_foreign(self, look: Look) -> bool:
        """Whether the published copy is neither ours nor one that an older writer of ours left."""
        if look.published is None or look.newest.number == 0:
            return False
        return not look.newest.knows(look.published)

    def _version(self, revision: Revision) -> str | None:
        return None if revision.text is None else f"{revision.number}:{digest(revision.text)}"

    def _file(self, number: int) -> str:
        return f"{self._name}.versions/{number}/document.json"

    # Writing

    def _commit(self, revision: Revision, look: Look) -> Look:
        """Make *revision* and look again, or raise RegistryConflictError where another writer made it."""
        making = f"{self._name}.making/{_hour(look.now)}-{fresh_name()}"
        made: bool | None = None  # None: nobody knows
        reason = None
        try:
            if not look.numbers:
                self._dav.make_collections(f"{self._name}.versions")
            self._prepare(making, revision)
        except (TransientError, RegistryConflictError) as error:
            self._discard(making)
            raise UnwrittenError(str(error)) from error
        try:
            made = self._dav.move_once(making, f"{self._name}.versions/{revision.number}")
        except (TransientError, RegistryConflictError) as error:
            reason = error
        finally:
            # A move that may be under way would find nothing to move. One that moves file by file might by
            # then have made the revision, which would stay empty: there the next sweep removes what is left.
            if made is False or (made is None and self._proven):
                self._discard(making)
        after = self._settle(revision, made=bool(made), reason=reason)
        self._known = (after.numbers.get(after.newest.number, ""), after.newest)
        return after

    def _prepare(self, making: str, revision: Revision) -> None:
        try:
            self._dav.make_collection(making)
        except MissingCollectionError:
            # In this order: who finds the second one relies on the first.
            for path in (f"{self._name}.versions", f"{self._name}.making"):
                self._dav.make_collections(path)
            self._dav.make_collection(making)
        if not self._dav.put(f"{making}/document.json", revision.encoded()):
            raise StoreBusyError(f"{self.url}: the store took no new revision.")  # an empty one would stay

    def _settle(self, revision: Revision, *, made: bool, reason: Exception | None) -> Look:
        """Return what is newest when *revision* is in the line of revisions for certain.

        Also after a success: who slept until its number had been pruned makes it anew, below the newest.

        Raises:
            RegistryConflictError: it is not, and will not be.
            TransientError: it is not yet.
            RegistryBrokenError: so much came since that nobody can tell.
        """
        look = self._listed(revision) if made and self._proven else self._newest()
        newest = look.newest
        if newest.descends_from(revision):
            return look
        if newest.number < revision.number:
            raise reason or StoreBusyError(f"The new revision of {self.url} has not appeared; try again.")
        if newest.number - revision.number >= REMEMBERED and (made or reason):
            raise RegistryBrokenError(
                f"This program stood still while {self.url} was changed {REMEMBERED} times, so it cannot "
                "tell whether its own change is in it: look, and run the command again."
            )
        raise RegistryConflictError(f"Another writer changed {self.url} at the same time.")

    def _listed(self, revision: Revision) -> Look:
        """The newest revision after *revision* was made: it itself, most of the time."""
        numbers, now = self._numbers()
        if max(numbers, default=0) == revision.number:
            return Look(revision, numbers, now)
        return self._newest()

    def _publish(self, revision: Revision, look: Look) -> None:
        """Put the text where other programs read it; who comes next does it if it fails."""
        there, text = look.published, revision.text
        if not self._is_published or text is None or (there is not None and digest(there) == digest(text)):
            return
        try:
            # Two uploads at once could leave a mixture, where the server writes in place.
            with self._turns.alone() as token:
                for padded in in_steps(there, text):
                    if not self._dav.put(f"{self._name}.json", padded, _condition(look, token)):
                        return
                    look.published, look.etag = as_text(padded), None
        except (TransientError, ReloadError, RegistryBrokenError) as error:
            behind = revision.since(there)
            level = logging.WARNING if behind >= STALE else logging.INFO
            log.log(level, "%s is %d revisions behind ours: %s", self.url, behind, error)

    def _prune(self, newest: Revision, look: Look) -> None:
        """Remove what nobody reads any more, and what writers that died had prepared."""
        old = [n for n in look.numbers if n < newest.number - KEPT_REVISIONS and n not in newest.kept]
        for number in old:
            self._discard(f"{self._name}.versions/{number}")
        if not self._swept:
            self._sweep(look.now)
            self._swept = True

    def _sweep(self, now: datetime) -> None:
        with contextlib.suppress(TransientError, RegistryBrokenError):
            names, _ = self._dav.children(f"{self._name}.making/")
            for name in names or []:
                hour = name.partition("-")[0]
                if hour.isdecimal() and int(hour) < _hour(now) - 1:
                    self._discard(f"{self._name}.making/{name}")

    def _discard(self, path: str, *, patiently: bool = False) -> None:
        with contextlib.suppress(TransientError, ReloadError, RegistryBrokenError):
            self._dav.delete(f"{path}/", patiently=patiently)


def _condition(look: Look, token: str | None) -> dict[str, str]:
    """The headers by which an upload replaces only the copy that was seen, as far as the server can tell."""
    if token:
        return {"If": f"(<{token}> [{look.etag}])" if look.etag else f"(<{token}>)"}
    if look.published is None:
        return {"If-None-Match": "*"}
    return {"If-Match": look.etag} if look.etag else {}


def _hour(now: datetime) -> int:
    """The hour of the server's clock, by which what writers that died had prepared is known as old."""
    return int(now.timestamp() // 3600)

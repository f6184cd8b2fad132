"""One state of a document in the line of its revisions, and the bytes by which a copy of it is published."""

import hashlib
import json
from dataclasses import dataclass

from morpheus.registry import KEPT_BACKUPS
from morpheus.registry.dav import fresh_name

REMEMBERED = 500  # revisions that one names as its ancestors
LEAST_ROOM = 32 * 1024  # bytes of the published copy, so that it hardly ever grows


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of the document. ``number`` 0 is what stood there before the first of ours.

    ``past`` names this revision and those before it, newest last: each by an id of its own, a dash and the
    digest of its text. ``kept`` holds the numbers of the replaced revisions that serve as backups, newest
    last.
    """

    number: int
    text: str | None
    past: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()

    def next(self, text: str | None, *, backup: bool) -> "Revision":
        """The one after this; without a *text* the document is gone, and with it its backups."""
        kept = (*self.kept, self.number) if backup and self.number else self.kept
        past = (*self.past, f"{fresh_name()[:8]}-{digest(text or '')}")
        kept = () if text is None else kept[-KEPT_BACKUPS:]
        return Revision(self.number + 1, text, past[-REMEMBERED:], kept)

    def encoded(self) -> bytes:
        return json.dumps({"past": self.past, "kept": self.kept, "text": self.text}).encode()

    def descends_from(self, other: "Revision") -> bool:
        return other.past[-1] in self.past

    def since(self, text: str | None) -> int:
        """How many revisions ago *text* was the newest one; all that are remembered where none was."""
        known = "-" + digest(text or "")
        return next((k for k, each in enumerate(reversed(self.past)) if each.endswith(known)), len(self.past))

    def knows(self, text: str) -> bool:
        """Whether *text* is this one, one before it, or what a cut upload left of this one; padded or not."""
        if (self.text or "").startswith(text.rstrip()):
            return True
        known = digest(text)
        return any(each.endswith(known) for each in self.past)


def in_steps(there: str | None, text: str) -> list[bytes]:
    """The bytes to publish, one after the other, so that plain readers find one text or the other, whole.

    Apache looks up a file's size, then opens the file: who asks while another takes its place gets the new
    text with the old length. So the copy is padded with spaces, as JSON allows, never shrinks, and before it
    grows, what is there gets the new length.
    """
    old, new = (_bytes(there or ""), _bytes(text))
    room = max(len(old), LEAST_ROOM)
    while room < len(new):
        room *= 2
    steps = [old.ljust(room)] if there is not None and len(old) < room else []
    return [*steps, new.ljust(room)]


def as_text(body: bytes) -> str:
    """What another program may have written, byte for byte."""
    return body.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def digest(text: str) -> str:
    """By which a text is known, whether it was padded or not."""
    return hashlib.sha256(_bytes(text.rstrip())).hexdigest()[:16]

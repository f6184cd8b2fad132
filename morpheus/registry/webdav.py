"""A registry on a WebDAV server such as a Storage Box, whatever software that runs.

At the first write the server is asked what it can: whether of several MOVEs of a collection onto one name
only one succeeds, and whether its locks exclude. The mechanism that follows from the answers is recorded in
the store, so that all devices use the same one.
"""

import contextlib
import ipaddress
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from threading import Barrier
from urllib.parse import urlsplit

import tenacity

from morpheus.errors import (
    AbandonedError,
    InvalidInputError,
    NotReadyError,
    RegistryBrokenError,
    StoreBusyError,
    TransientError,
    UnreachableError,
)
from morpheus.registry import BESIDE, Backup, Snapshot
from morpheus.registry.dav import Dav, MissingCollectionError, fresh_name
from morpheus.registry.locked import Locked
from morpheus.registry.revisions import Revisions
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.registry")

ROUNDS = 6  # of two MOVEs that race
FILES = 2  # in each collection that is moved: what is copied one by one takes longer
MECHANISM = "morpheus.store"
PROBING = "morpheus.probing"
PROBE_LOCK = 10  # seconds that a lock of a probe lasts
PROBE_TRIES = 5  # of each question, on a network that loses answers


def document_url(text: str) -> str:
    """The URL of the document that *text* means: the document, its directory (ends in /) or a bare host.

    Raises:
        InvalidInputError: it is none of them, or would send the password unencrypted.
    """
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        known = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        known, url = False, urlsplit("")
    path = url.path or "/morpheus/"
    path += "registry.json" if path.endswith("/") else ""
    if not known or "@" in url.netloc or url.query or url.fragment or not path.endswith(".json"):
        raise InvalidInputError(  # without its text, in which a password may stand
            "registry.url must be a bare host, a directory that ends in / or a document that ends in .json, "
            "without user name and password; for example https://u1337.your-storagebox.de/morpheus/"
        )
    if url.scheme == "http" and not _is_here(url.hostname or ""):
        raise InvalidInputError(f"{text} would send the password unencrypted: use https.")
    return url._replace(path=path).geturl()


def _is_here(host: str) -> bool:
    """Whether *host* is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server can.

    ``once``: of several MOVEs onto one name only one succeeds. ``turns``: its locks exclude. ``proven``: its
    software is known to move and to write by rename(2), so that a success needs no second look and an upload
    is whole; a race that is lost once in a thousand times is not found by trying.
    """

    once: bool
    turns: bool
    proven: bool = False


ABILITIES = tuple(each.name for each in fields(Abilities))


class WebDavStore:
    """The store at *url*, a document (``name`` None) or another one beside it.

    Args:
        url: the document's, as :func:`document_url` returns it.
        username: of the store, None where it asks for none.
        password: of that user.
        name: of a document beside it, such as ``secrets/oak``, that nobody else reads.
    """

    def __init__(self, url: str, username: str | None, password: str | None, name: str | None = None) -> None:
        base, _, file = url.rpartition("/")
        self._dav = Dav(f"{base}/", username, password)
        self._name, self._published = name or file.removesuffix(".json"), name is None
        self._mechanism: Revisions | Locked | None = None

    @property
    def url(self) -> str:
        return self._dav.url(f"{self._name}.json")

    def read(self) -> Snapshot:
        return self._chosen().read()

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        mechanism = self._chosen()
        if self._mechanism is None:
            mechanism = self._choose()
        return mechanism.write(text, expected, backup=backup, over=over)

    def remove(self, expected: str) -> None:
        self._chosen().remove(expected)

    def backups(self) -> Sequence[Backup]:
        return self._chosen().backups()

    def beside(self) -> Sequence[str]:
        found = [f"{kind}/{stem}" for kind in BESIDE for stem in self._stems(kind)]
        return [name for name in found if self._chosen().named(name).read().text is not None]

    def _stems(self, folder: str) -> Sequence[str]:
        """The names of the documents in *folder*, those that were removed among them."""
        names, _ = self._dav.children(f"{folder}/")
        return sorted(
            {name.partition(".")[0] for name in names or [] if name.endswith((".versions", ".json"))}
        )

    def foreign(self) -> str | None:
        return self._chosen().foreign()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        mechanism = self._chosen()
        with mechanism.turn() if self._mechanism else contextlib.nullcontext():
            yield

    def _chosen(self) -> Revisions | Locked:
        """The recorded mechanism; before the first write there is none, and nothing but the copy to read."""
        if self._mechanism:
            return self._mechanism
        answer = self._dav.get(f"{MECHANISM}/mechanism.json")
        if not answer.found:
            return self._of(Abilities(once=True, turns=False))
        try:
            raw = json.loads(answer.body)
            self._mechanism = self._of(Abilities(**{each: bool(raw[each]) for each in ABILITIES}))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RegistryBrokenError(
                f"{self._dav.url(MECHANISM)}/mechanism.json cannot be read: remove the folder {MECHANISM} "
                "while no other device uses the registry, and it is found out anew."
            ) from error
        return self._mechanism

    def _of(self, abilities: Abilities) -> Revisions | Locked:
        if abilities.once:
            return Revisions(
                self._dav,
                self._name,
                published=self._published,
                turns=abilities.turns,
                proven=abilities.proven,
            )
        return Locked(self._dav, self._name)

    def _choose(self) -> Revisions | Locked:
        """Find out what the server can, record it, and use what is then recorded.

        Raises:
            RegistryBrokenError: it can keep no promise.
        """
        place = f"{PROBING}/{fresh_name()}"
        self._dav.make_collections("")
        try:
            self._dav.make_collections(place)
            abilities = probe(self._dav, place)
            if not self._recorded():
                self._record(abilities, place)
        except (TransientError, RegistryBrokenError):
            if not self._recorded():  # else another device was faster, and cleared the place
                raise
        finally:
            self._clear(place)
        self._mechanism = None
        return self._chosen()

    def _recorded(self) -> bool:
        return self._dav.get(f"{MECHANISM}/mechanism.json").found

    def _record(self, abilities: Abilities, place: str) -> None:
        """Make *abilities* the store's, unless another device comes first with what it found."""
        if not (abilities.once or abilities.turns):
            raise RegistryBrokenError(
                f"The server of {self.url} can keep no registry: of two writers it lets both win (its MOVE "
                "overwrites, its LOCK does not exclude). Use another store."
            )
        if not abilities.once:
            log.warning(
                "%s: this server moves nothing only once, so its locks have to do: an upload that stalls for "
                "longer than a lock lasts could overwrite what came since",
                self.url,
            )
        making = f"{place}/mechanism"
        self._dav.make_collection(making)
        self._dav.put(f"{making}/mechanism.json", json.dumps(asdict(abilities)).encode(), patiently=True)
        self._dav.move_once(making, MECHANISM)

    def _clear(self, place: str) -> None:
        """Remove what was made to find out; all of it, others' too, once it is recorded.

        Who is still asking then fails, tries again, and finds the record. Apache, asked by many at once, may
        keep a lock that was given back until it ends, and refuses to remove what it is on; so one asks again.
        """

        def cleared() -> bool:
            with contextlib.suppress(TransientError, RegistryBrokenError):
                return not self._dav.delete(f"{PROBING if self._recorded() else place}/", patiently=True)
            return False

        with contextlib.suppress(NotReadyError, AbandonedError):  # it harms nobody
            wait_until(
                f"what was made to ask the server of {self.url} to be gone",
                cleared,
                bool,
                lambda _: "it is still there",
                timeout=PROBE_LOCK + 2,
                interval=random.uniform(0.05, 0.5),  # noqa: S311  # so that several do not meet again
            )


def probe(dav: Dav, place: str) -> Abilities:
    """Find out what the server can, in the collection *place*.

    WsgiDAV is known: its MOVE looks whether anything is there, and then moves *into* what came meanwhile. So
    both are told that they won, rarely, but what the first one moved stays: the look after each commit tells.
    """
    software = dav.software().lower()
    told = "wsgidav" not in software
    once = all(_answered(_first_stays, dav, f"{place}/{k}", told) for k in range(ROUNDS))
    turns = _answered(_locks_exclude, dav, f"{place}/lock")
    return Abilities(once, turns, proven=once and "apache" in software)


def _answered(ask: Callable[..., bool], dav: Dav, place: str, *more: bool) -> bool:
    """What *ask* finds out at *place*, or beside it where an answer was lost on the way."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((StoreBusyError, UnreachableError)),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
        stop=tenacity.stop_after_attempt(PROBE_TRIES),
        reraise=True,
    )
    return attempts(lambda: ask(dav, f"{place}-{fresh_name()[:8]}", *more))


def _first_stays(dav: Dav, place: str, told: bool) -> bool:
    """Whether of two MOVEs onto one name one stays, is *told* so alone, and a third one fails."""
    dav.make_collection(place, patiently=True)
    for who in "abc":
        dav.make_collection(f"{place}/{who}", patiently=True)
        for k in range(FILES):
            dav.put(f"{place}/{who}/{k}", who.encode(), patiently=True)
    barrier = Barrier(2)

    lost: list[TransientError] = []

    def move(who: str) -> bool:
        barrier.wait()
        try:
            return dav.move_once(f"{place}/{who}", f"{place}/won")
        except (StoreBusyError, MissingCollectionError) as error:  # two that collide within the server
            lost.append(error)
            return False

    with ThreadPoolExecutor(2) as pool:
        won = {who for who, wins in zip("ab", pool.map(move, "ab"), strict=True) if wins}
    third = dav.move_once(f"{place}/c", f"{place}/won")
    there = {dav.get(f"{place}/won/{k}").body.decode(errors="replace") for k in range(FILES)}
    if third or len(there) != 1 or (told and len(won) > 1):
        return False
    if not there <= won:  # the winner's answer was lost or repeated on the way: that tells nothing
        raise StoreBusyError(f"The server answers unclearly to two MOVEs at once ({lost or 'both failed'}).")
    return True


def _locks_exclude(dav: Dav, place: str) -> bool:
    """Whether a lock keeps others from locking and writing, and lets its holder write."""
    tokens: list[str] = []
    try:
        dav.put(place, b"free", patiently=True)
        if not _taken(dav, place, tokens) or _taken(dav, place, tokens):
            return False
        with contextlib.suppress(StoreBusyError):
            dav.put(place, b"intruder")
            return False
        if not dav.put(place, b"holder", {"If": f"(<{tokens[0]}>)"}):
            return False
        dav.unlock(place, tokens.pop())
        return _taken(dav, place, tokens) and dav.get(place).body == b"holder"
    except RegistryBrokenError:
        return False
    finally:
        for token in tokens:
            with contextlib.suppress(TransientError, RegistryBrokenError):
                dav.unlock(place, token)


def _taken(dav: Dav, place: str, tokens: list[str]) -> bool:
    token = dav.lock(place, PROBE_LOCK)
    if token:
        tokens.append(token)
    return bool(token)

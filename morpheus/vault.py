"""The vault: one sealed document per forest beside the registry, ``secrets/<forest>``.

It is made between the reservation of the forest's name and its first server, so a forest that has machines
has secrets, or somebody lost them: then nothing new is made up, which no machine would know. A forest may be
planted, torn down and planted again under one name; ``Forest.run``, the run that brought it forth, tells one
planting from another. Before a document is written the registry is asked whether that planting is still the
recorded one: a program that slept meanwhile cannot put its own in the place of a later one's, for what it
then replaces is what stood there before it asked.
"""

import base64
import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity
from pydantic import SecretStr

from morpheus import sealed, secrets
from morpheus.errors import LeaseLostError, RefusedError, RegistryConflictError, TransientError
from morpheus.forest import Forest, Status, check_name
from morpheus.registry import SECRETS, Registry, Store
from morpheus.registry.care import Place
from morpheus.sealed import Bond, Envelope
from morpheus.secrets import ForestSecrets, KeyPair

log = logging.getLogger("morpheus.vault")

TIMEOUT = 60.0  # seconds of losing against other writers before giving up

Authority = Callable[[str], KeyPair]
"""Makes the certificate authority of the forest with that name."""

T = TypeVar("T")


class Vault:
    """The secrets of the forests of one registry.

    Args:
        place: where the registry stands, and its documents.
        registry_id: that of the registry.
        key: that of the registry, proven; None for who only removes.
        authority: what makes the authority of a new forest; None for who makes no forest.
    """

    def __init__(
        self,
        place: Place,
        registry_id: str = "",
        key: SecretStr | None = None,
        authority: Authority | None = None,
    ) -> None:
        self._place, self._registry_id = place, registry_id
        self._key, self._authority = key, authority

    def ensure(self, forest: Forest, *, newborn: bool) -> ForestSecrets:
        """The secrets of *forest*, made now where it cannot have had any; they were read back and opened.

        Args:
            forest: as it is recorded, and held.
            newborn: this run reserved its name, under which nothing was recorded before.

        Raises:
            RefusedError: it must have had secrets, and they are not there or cannot be opened.
            LeaseLostError: it is recorded no more, or as another planting.
        """
        store = self._store(forest)
        made: list[str] = []

        def ensured() -> ForestSecrets:
            there = store.read()
            if there.text is not None and _is_of(there.text, forest):
                return self._opened(there.text, forest)
            if not (newborn or _is_unborn(forest)):
                raise self._lacking(forest, there.text)
            self._check_current(forest)
            if not made:
                made.append(self._sealed(self._generated(forest), forest))
            store.write(made[0], there.version, backup=False)
            return self._opened(store.read().text, forest)

        return _patiently(ensured)

    def find(self, forest: Forest) -> ForestSecrets | None:
        """The secrets of *forest*; None where no document is there.

        Raises:
            RefusedError: they cannot be opened.
        """
        text = self._store(forest).read().text
        return None if text is None else self._opened(text, forest)

    def open(self, forest: Forest) -> ForestSecrets:
        """The secrets of *forest*.

        Raises:
            RefusedError: they are not there, or cannot be opened; says what to do.
        """
        return self._opened(self._store(forest).read().text, forest)

    def change(self, forest: Forest, change: Callable[[ForestSecrets], ForestSecrets]) -> ForestSecrets:
        """Replace the secrets of *forest* by ``change(secrets)``, which is asked again after a lost race.

        Raises:
            RefusedError, LeaseLostError: as :meth:`ensure`.
        """
        store = self._store(forest)

        def changed() -> ForestSecrets:
            there = store.read()
            before = self._opened(there.text, forest)
            after = change(before)
            if after == before:
                return before
            self._check_current(forest)
            store.write(self._sealed(after, forest), there.version, backup=False)
            return self._opened(store.read().text, forest)

        return _patiently(changed)

    def delete(self, forest: Forest) -> None:
        """Remove the secrets of *forest*, where they are there; needs no key.

        Those of another planting stay, unless nothing tells which planting *forest* is.

        Raises:
            LeaseLostError: it is recorded as another planting.
        """
        store = self._store(forest)

        def deleted() -> None:
            there = store.read()
            if there.text is None or there.version is None:
                return
            if forest.run and not _is_of(there.text, forest):
                log.warning("%s holds secrets of another planting of %s: it stays", store.url, forest.name)
                return
            self._check_current(forest, gone=True)
            store.remove(there.version)

        _patiently(deleted)

    def _store(self, forest: Forest) -> Store:
        return self._place(f"{SECRETS}/{check_name(forest.name)}")

    def _check_current(self, forest: Forest, *, gone: bool = False) -> None:
        """Make sure that *forest* is the planting that is recorded, or (*gone*) that none is.

        Raises:
            RegistryMovedError: the registry is another one by now.
            LeaseLostError: another planting is recorded.
        """
        recorded = Registry(self._place(None)).find(forest.name)
        if (recorded.run != forest.run) if recorded else not gone:
            raise LeaseLostError(
                f"Another operation took {forest.name} over: its secrets are not this run's any more. "
                "See morpheus status."
            )

    def _generated(self, forest: Forest) -> ForestSecrets:
        assert self._authority
        return secrets.generate(self._authority(forest.name))

    def _sealed(self, known: ForestSecrets, forest: Forest) -> str:
        return sealed.seal(self._the_key(forest), secrets.render(known), self._bond(forest))

    def _opened(self, text: str | None, forest: Forest) -> ForestSecrets:
        if text is None:
            raise self._lacking(forest, text)
        key = self._the_key(forest)
        try:
            return secrets.parse(sealed.unseal(key, text, self._bond(forest)))
        except RefusedError as error:
            raise RefusedError(self._cannot(forest, str(error))) from None

    def _the_key(self, forest: Forest) -> bytes:
        if self._key is None:
            raise RefusedError(self._cannot(forest, "the registry's key is not here"))
        return base64.b64decode(self._key.get_secret_value())

    def _bond(self, forest: Forest) -> Bond:
        return Bond(self._registry_id, forest.name, _planting(forest))

    def _cannot(self, forest: Forest, reason: str) -> str:
        return f"The secrets of {forest.name} ({self._store(forest).url}) cannot be opened: {reason}."

    def _lacking(self, forest: Forest, text: str | None) -> RefusedError:
        reason = "are not there" if text is None else "are not those of this planting of it"
        return RefusedError(
            f"The secrets of {forest.name} ({self._store(forest).url}) {reason}, and without them nobody "
            "enters its machines: put that document back from a copy, or begin anew with morpheus teardown "
            f"{forest.name}. No others are made, which its machines would not know."
        )


def _planting(forest: Forest) -> str:
    return forest.run or ""


def _is_of(text: str, forest: Forest) -> bool:
    """Whether the document says that it belongs to this planting of *forest*.

    Raises:
        RefusedError: a newer Morpheus wrote it.
    """
    try:
        envelope = Envelope.parse(text)
    except RefusedError as error:
        raise RefusedError(f"The secrets of {forest.name} cannot be used: {error}.") from None
    return envelope is not None and envelope.planting == _planting(forest)


def _is_unborn(forest: Forest) -> bool:
    """Whether nothing can have been made of *forest*: before its first server its host keys are recorded."""
    known = any(node.ip or "host_key" in node.metadata or node.leaving for node in forest.nodes)
    return bool(forest.run) and forest.status == Status.PROVISIONING and not known


def _patiently(call: Callable[[], T]) -> T:
    """What *call* returns, begun anew after a lost race or a lost answer; it reads first what there is."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((RegistryConflictError, TransientError)),
        wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.5),
        stop=tenacity.stop_after_delay(TIMEOUT),
        reraise=True,
    )
    return attempts(call)

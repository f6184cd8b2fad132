"""Everything Morpheus raises on purpose; the class says what to do next.

MorpheusError
    TransientError              retry: the same call may succeed in a moment; tasks do so
        StoreBusyError          a lock is held by another program, or the registry's store gives no answer
            UnwrittenError      and nothing was written, for certain
        UnreachableError        a server or machine gives no answer
        CloudBusyError          the cloud's API is busy, or limits requests
    ReloadError                 reload and decide again: the world changed under us
        RegistryConflictError   another writer came first
        PortTakenError          a port that was free a moment ago is not
        OvertakenError          another one did meanwhile what was decided
    StopError                   a person has to act; the sentence says how
        InvalidInputError       a name, size, setting or argument that cannot be
        ForestNotFoundError     no forest of that name is recorded
        ForestBusyError         another operation holds the forest
        LeaseLostError          this operation lost the forest to another one
        RefusedError            possible, but it would lose something
        RegistryBrokenError     the registry cannot be read, or must not be trusted
            RegistryNewerError  a newer Morpheus wrote it
            RegistryMovedError  it was moved to another store
        NotReadyError           a wait reached its bound
        AbandonedError          a wait was ended, because its run is being taken back
        MissingPartError        a program, provider or file that is needed is not there
        MachineError            this machine or one of the nodes could not do what was asked
        CloudError              the cloud would not do what was asked: sold out, a limit, a protection

Every class has an ``exit_code``, the one the command line ends with; docs/exit-codes.md lists them.
"""

from typing import ClassVar


class MorpheusError(Exception):
    """Base of all errors raised by Morpheus; its text is one sentence that says what to do."""

    exit_code: ClassVar[int] = 1


class TransientError(MorpheusError):
    """The same call may succeed in a moment."""


class StoreBusyError(TransientError):
    """A lock is held by another program, or the registry's store gives no answer."""

    exit_code = 4


class UnwrittenError(StoreBusyError):
    """The registry's store gave no answer, but nothing was written, for certain."""


class UnreachableError(TransientError):
    """A server or machine gives no answer."""

    exit_code = 7


class CloudBusyError(TransientError):
    """The cloud's API is busy, or limits requests."""

    exit_code = 7


class ReloadError(MorpheusError):
    """The world changed under us: read it again and decide again."""


class RegistryConflictError(ReloadError):
    """Another writer changed the registry between our read and our write."""

    exit_code = 4


class PortTakenError(ReloadError):
    """A port that was free a moment ago is not any more."""


class OvertakenError(ReloadError):
    """The forest is not any more as it was when something was decided about it."""

    exit_code = 4


class StopError(MorpheusError):
    """Trying again changes nothing; a person has to act."""


class InvalidInputError(StopError):
    """A name, size, setting or argument that cannot be."""

    exit_code = 2


class ForestNotFoundError(StopError):
    """No forest of that name is recorded."""

    exit_code = 3


class ForestBusyError(StopError):
    """Another operation holds the forest."""

    exit_code = 4


class LeaseLostError(StopError):
    """This operation lost the forest to another one and must not act any more."""

    exit_code = 4


class RefusedError(StopError):
    """What was asked is possible, but would lose something; the sentence says what and how to go on."""

    exit_code = 5


class RegistryBrokenError(StopError):
    """The registry cannot be read, or must not be trusted."""

    exit_code = 6


class RegistryNewerError(RegistryBrokenError):
    """The registry is in a format that only a newer Morpheus reads; it is not broken, nothing is put back."""


class RegistryMovedError(RegistryBrokenError):
    """The registry was moved to another store, and nobody may use this one any more."""


class NotReadyError(StopError):
    """A wait reached its bound; the sentence says what was seen last."""

    exit_code = 7


class AbandonedError(StopError):
    """A wait was ended before its bound, because the run that waited is being taken back."""

    exit_code = 7


class MissingPartError(StopError):
    """A program, provider or file that is needed is not there."""

    exit_code = 8


class MachineError(StopError):
    """This machine or one of the nodes could not do what was asked."""


class CloudError(StopError):
    """The cloud would not do what was asked; the sentence says why and what to do."""

    exit_code = 9

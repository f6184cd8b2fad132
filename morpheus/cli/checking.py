"""Questions about everything that Morpheus needs, each with a bound; none changes anything."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from morpheus import folders, keyring, site
from morpheus import settings as config
from morpheus.cloud.hetzner import HetznerCloud, keys
from morpheus.cloud.hetzner import questions as hetzner
from morpheus.errors import MorpheusError, RegistryBrokenError, UnreachableError
from morpheus.machine import bootstrap
from morpheus.registry import Registry, care
from morpheus.settings import Settings

BOUND = 30.0  # seconds until all parts must have answered; they are asked at once

Question = Callable[[], str]
"""Says what is well, or raises the error that says what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question was answered with; ``exit_code`` is 0 when all is well."""

    part: str
    says: str
    exit_code: int = 0


@dataclass
class _Asked:
    """A part that is being asked, in a thread that nobody has to wait for."""

    part: str
    questions: Callable[[], Sequence[Question]]
    answers: list[Answer] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        try:
            for question in self.questions():
                self.answers.append(answer(self.part, question))
                if self.answers[0].exit_code:  # then the others have none
                    return
        except MorpheusError as error:
            self.answers.append(Answer(self.part, str(error), error.exit_code))
        except Exception as error:  # noqa: BLE001  # raised again where somebody can handle it
            self.faults.append(error)

    def until(self, end: float) -> list[Answer]:
        """The answers there are at *end*, by time.monotonic()."""
        self.thread.join(max(0.0, end - time.monotonic()))
        if self.faults:
            raise self.faults[0]
        if self.thread.is_alive():
            late = f"there was no answer for {BOUND:.0f} s: look at the network, and try again."
            return [*self.answers, Answer(self.part, late, UnreachableError.exit_code)]
        return self.answers


def ask(only: str | None = None) -> list[Answer]:
    """The answers about one part or all of them; while the settings cannot be read, about those alone."""
    first = [answer("config", _settings)]
    if first[0].exit_code:
        return first
    settings = config.load()
    if settings.integration.bootstrap_script:
        first.append(answer("config", partial(_script, settings)))
    if only == "config":
        return first
    parts = {"network": _network, "ssh": _ssh, "registry": _registry, "cloud": _cloud}
    chosen = {only: parts[only]} if only else parts
    asked = [_Asked(part, partial(questions, settings)) for part, questions in chosen.items()]
    end = time.monotonic() + BOUND
    return [*([] if only else first), *(each for part in asked for each in part.until(end))]


def answer(part: str, question: Question) -> Answer:
    try:
        return Answer(part, question())
    except MorpheusError as error:
        return Answer(part, str(error), error.exit_code)


def _settings() -> str:
    config.load()
    path = folders.config_path()
    return f"{path.absolute()} can be read" if path else "no morpheus.yaml: every setting has its default"


def _script(settings: Settings) -> str:
    script = bootstrap.read_script(settings.integration.bootstrap_script) or b""
    return f"{bootstrap.SETTING} can be read ({len(script)} bytes)"


def _needs_nothing() -> str:
    return "machine.provider is local: nothing is needed"


def _network(settings: Settings) -> Sequence[Question]:
    if settings.machine.provider == "local":
        return (_needs_nothing,)
    return (partial(hetzner.network, settings.machine),)


def _ssh(settings: Settings) -> Sequence[Question]:
    if settings.machine.provider == "local":
        return (_needs_nothing,)
    return (partial(keys.check_key, settings.machine.ssh),)


def _registry(settings: Settings) -> Sequence[Question]:
    if settings.machine.provider == "local" and settings.registry.type is None:
        return (lambda: "none is configured: only the forests of this machine are known",)
    store = site.open_store(settings.registry)

    def question() -> str:
        report = care.check(store)
        if report.faults:
            hint = "" if report.moved_to else " See morpheus registry backups and restore."
            raise RegistryBrokenError(f"{report.url}: {'; '.join(report.faults)}.{hint}")
        names = ", ".join(Registry(store).read().forests)
        return f"{report.url} can be read: {f'the forests are {names}' if names else 'no forests yet'}"

    def key() -> str:
        if keyring.is_made(keyring.keeper_of(settings.registry), Registry(store).read().registry_id):
            return "its key for secrets is here, and proven"
        return "it has no key for secrets yet: the first forest in a cloud makes it"

    return (question,) if settings.machine.provider == "local" else (question, key)


def _cloud(settings: Settings) -> Sequence[Question]:
    if settings.machine.provider == "local":
        return (_needs_nothing,)
    return HetznerCloud(settings.machine, settings.firewall, settings.dns).questions()

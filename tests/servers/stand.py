"""A recorded forest whose machines are sshds on loopback, and the command as a program of its own."""

import contextlib
import getpass
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from morpheus import keyring
from morpheus.forest import Forest, Node
from morpheus.registry import Registry
from morpheus.secrets import ForestSecrets
from morpheus.settings import RegistrySettings
from morpheus.wait import wait_until
from tests.servers import free_port
from tests.servers.sshd import Sshd, sshd

# The command; where nobody is root, machines are entered as whoever runs the tests.
PROGRAM = """
import functools, sys
from morpheus.cli import main
from morpheus.cloud import over_ssh
over_ssh.Way = functools.partial(over_ssh.Way, user={user!r})
main()
"""
BOUND = 60  # seconds


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Command:
    """A command that runs; what it prints is gathered meanwhile."""

    process: "subprocess.Popen[str]"
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            assert stream
            reader = threading.Thread(target=lines.extend, args=[iter(stream.readline, "")])
            reader.start()
            self._readers.append(reader)

    def until(self, text: str) -> None:
        """Wait until it has printed *text*."""
        wait_until(text, lambda: "".join(self.out + self.err), lambda said: text in said, str, timeout=BOUND)

    def ended(self, number: int | None = None) -> Done:
        """How it ended, after the signal *number* where one is given."""
        if number:
            self.process.send_signal(number)
        code = self.process.wait(BOUND)
        for reader in self._readers:
            reader.join(BOUND)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        done = Done(code, "".join(self.out), "".join(self.err))
        assert "Traceback" not in done.err, done.err
        return done


def started(words: Sequence[str], environment: Mapping[str, str], given: str | None = None) -> Command:
    """Run the command, with the signals of a terminal; *given* is its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(user=getpass.getuser()), *words],
        env=dict(environment),
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_default_signals,  # noqa: PLW1509  # no thread of ours is in there
    )
    if given is not None:
        assert process.stdin
        process.stdin.write(given)
        process.stdin.close()
    return Command(process)


def _default_signals() -> None:
    """Whoever runs the tests may have them ignored, and a program obeys that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@dataclass
class Stand:
    """The forest oak, its machines by the names of their nodes, and a user who has its key."""

    folder: Path
    forest: Forest
    secrets: ForestSecrets
    machines: Mapping[str, Sshd]

    @property
    def context(self) -> Path:
        return self.folder / ".config" / "nats" / "context" / "oak.json"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "MORPHEUS_DATA_DIR": str(self.folder / "data"),
            "MORPHEUS_CONFIG": str(self.folder / "morpheus.yaml"),
        }

    def start(self, *words: str, given: str | None = None, **more: str) -> Command:
        return started(words, self.environment | more, given)

    def run(self, *words: str, given: str | None = None, **more: str) -> Done:
        return self.start(*words, given=given, **more).ended()

    def record(self, node: str, **metadata: str) -> None:
        """Change what is recorded of *node*."""
        self._registry.update(
            lambda document, _: document.with_forest(_told(document.forests["oak"], node, metadata))
        )

    def forget_key(self, node: str) -> None:
        """Let no host key of *node* be recorded."""

        def without(forest: Forest) -> Forest:
            known = forest.node(node)
            rest = {key: value for key, value in known.metadata.items() if key != "host_key"}
            return forest.with_nodes(replace(known, metadata=rest, extra={}))

        self._registry.update(lambda document, _: document.with_forest(without(document.forests["oak"])))

    @property
    def _registry(self) -> Registry:
        return Registry(keyring.keeper_of(_registry(self.folder)).place(None))


def _told(forest: Forest, name: str, metadata: Mapping[str, str]) -> Forest:
    node = forest.node(name)
    return forest.with_nodes(Node(name, node.ip, node.status, metadata={**node.metadata, **metadata}))


def _registry(folder: Path) -> RegistrySettings:
    return RegistrySettings(type="local", url=str(folder / "registry.json"))


def metadata(machine: Sshd) -> dict[str, str]:
    """What is recorded of a node: its host key, and where its server listens; all share one loopback."""
    return {"host_key": machine.host_key, "client_port": str(free_port())}


@contextlib.contextmanager
def stand(folder: Path, *, nodes: int = 3) -> Iterator[Stand]:
    """Run a forest of sshds, each on an address of its own; *folder* is the home, its data folder is set."""
    port, net = free_port(), f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
    (folder / "tmp").mkdir(parents=True)
    settings = {
        "registry": {"type": "local", "url": str(folder / "registry.json")},
        "machine": {"provider": "hetzner"},
        "provisioning": {"ssh_port": port},
    }
    (folder / "morpheus.yaml").write_text(yaml.safe_dump(settings))
    with contextlib.ExitStack() as stack:
        machines = {
            f"oak-node-{k}": stack.enter_context(sshd(folder / f"node-{k}", f"{net}.{k}", port))
            for k in range(1, nodes + 1)
        }
        recorded = (
            Node(name, each.address, "active", metadata=metadata(each)) for name, each in machines.items()
        )
        forest = Forest("oak", "hetzner", run="run-1").with_nodes(*recorded)
        keeper = keyring.keeper_of(_registry(folder))
        Registry(keeper.place(None)).update(lambda document, _: document.with_forest(forest))
        secrets = keyring.open_vault(keeper).ensure(forest, newborn=True)
        for each in machines.values():
            with (each.folder / "authorized_keys").open("a") as file:
                file.write(secrets.ssh_public + "\n")
        yield Stand(folder, forest, secrets, machines)

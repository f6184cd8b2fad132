"""Where machines come from: the port that flows create, list and delete servers through."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pydantic import SecretStr

from morpheus.errors import InvalidInputError
from morpheus.forest import Node, Price, check_name
from morpheus.machine import Machine, StoreState
from morpheus.machine.beside import Beside

MANAGED_BY = "morpheus"
NODES = "nodes"  # beside the registry: the folder of the homes


@dataclass(frozen=True, slots=True)
class Order:
    """A server to be: its name, and whose it is. ``siblings`` is how many nodes the forest has with it.

    ``user_data`` is what the machine is told at birth, at most 32 KiB; every process on it can read that.
    """

    name: str
    forest: str
    registry_id: str
    run: str
    siblings: int = 1
    user_data: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """What tells ours from everybody else's, set in the create call itself."""
        return {
            "managed-by": MANAGED_BY,
            "registry-id": self.registry_id,
            "forest-id": self.forest,
            "node-id": self.name,
            "run-id": self.run,
        }


@dataclass(frozen=True, slots=True)
class Server:
    """A server that exists.

    ``metadata`` is what its node's record is to hold, ``status`` the cloud's word for its state.
    """

    RUNNING: ClassVar[str] = "running"

    name: str
    ip: str
    labels: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: str = field(default=RUNNING, compare=False)

    @property
    def run(self) -> str:
        return self.labels.get("run-id", "")

    @property
    def ssh_port(self) -> int | None:
        """Where SSH answers, as its node's record tells it."""
        return Node(self.name, metadata=self.metadata).ssh_port


@dataclass(frozen=True, slots=True)
class Home:
    """A forest's own home beside the registry, as its nodes reach it over WebDAV and SMB."""

    host: str
    username: str


class Homes(Protocol):
    """Homes of the forests of one registry: ``nodes/<forest>`` beside it, which that forest's nodes read."""

    def ensure(self, forest: str, password: str) -> Home:
        """Return the home of *forest*, made where there is none; it opens with *password*."""

    def remove(self, forest: str) -> None:
        """Return when nobody has a way into the home of *forest* any more; what is in it stays."""


def forest_of(name: str) -> str:
    """The forest of the node *name*, which may come from a document that anybody wrote.

    Raises:
        InvalidInputError: it is not <forest>-node-<number>.
    """
    number = Node(name).number
    if not number:
        raise InvalidInputError(f"{name!r} cannot name a node: that is <forest>-node-<number>.")
    return check_name(name.removesuffix(f"-node-{number}"))


class Cloud(Protocol):
    """Creates, lists and deletes servers. Every act is *ensure* or *absent*, so that it may be repeated.

    Only servers whose registry-id is the one given are ever listed, adopted or deleted.
    """

    @property
    def provider(self) -> str:
        """The provider's name as the registry records it."""

    @property
    def location(self) -> str:
        """The first configured location; empty where there is but one."""

    @property
    def margin(self) -> float:
        """Seconds after which a call that was given up can no longer take effect."""

    @property
    def runs_programs(self) -> bool:
        """Whether programs can be put on its machines; where not, a node is ready when its machine runs."""

    @property
    def needs_key(self) -> bool:
        """Whether its machines are entered with an SSH key that each forest has for itself."""

    def entered_with(self, key: SecretStr) -> "Cloud":
        """Return this cloud, whose machines are entered with *key*, a private key in OpenSSH's format."""

    def platforms(self) -> Collection[str]:
        """Return what programs on new machines are built for, as ``linux-amd64``; none for our own."""

    def price(self) -> Price:
        """Return what a new node costs at most."""

    def list_servers(self, registry_id: str, forest: str | None = None) -> Sequence[Server]:
        """Return our servers of *forest*, or of every forest, in the order of their names."""

    def groundwork(self, orders: Sequence[Order]) -> Mapping[str, Callable[[], object]]:
        """Return what the servers of *orders*, all of one forest, share: calls by the names of the parts.

        Each may be made again, and all at once. :meth:`ensure_server` makes what is missing itself.
        """

    def ensure_server(self, order: Order) -> Server:
        """Return the server of that name, adopted or created, switched on and with an address.

        Raises:
            InvalidInputError: the name is not <forest>-node-<number>.
            RefusedError: the name is taken by a server that is not ours.
        """

    def delete_server(self, registry_id: str, name: str) -> None:
        """Return when no server of ours has that name any more, and is found under it.

        Raises:
            InvalidInputError: the name is not <forest>-node-<number>.
            RefusedError: the name is that of a server that is not ours.
        """

    def check(self, *, creates: bool) -> None:
        """Return when the settings can be kept, as far as that can be asked without a change.

        *creates* asks for what new machines need as well.

        Raises:
            InvalidInputError: they cannot; says what to do.
        """

    def admit(
        self, registry_id: str, forest: str, nodes: Sequence[Server], leaving: Sequence[Server] = ()
    ) -> Sequence[Server]:
        """Let *nodes*, which have addresses, reach each other and be found, and no earlier one of *forest*.

        SSH goes on to reach those that are *leaving*, too. Who may reach a node and under which name it is
        found change at the same moments, when nodes come and when they go; so both are one act, and a cloud
        without either does nothing. Returns *nodes* with what their records are to hold from now on; ``dns``
        in the metadata is the name.

        Raises:
            RefusedError: a name is somebody else's.
        """

    def clear(self, registry_id: str, forest: str) -> None:
        """Remove what the servers of *forest* shared and what else bears its labels, once they are gone.

        Raises:
            CloudError: something of it cannot be removed yet.
        """

    def holdings(self, registry_id: str, forest: str) -> Sequence[str]:
        """Return all there is of *forest* with our labels, in words that a person decides by."""

    def homes(self, url: str, username: str) -> Homes | None:
        """Return what gives forests homes beside the registry at *url*, which *username* opens.

        None where the registry does not stand in storage of this cloud's own.
        """

    def machine(self, server: Server) -> Machine:
        """Return the way onto *server*."""

    def beside(self, server: Server) -> Beside:
        """Return the place of a second server of NATS on *server*."""

    def store(self, server: Server) -> StoreState:
        """Return what stands in the place of the JetStream store of *server*."""

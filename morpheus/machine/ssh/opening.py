"""Opening one SSH connection: the pinned host keys, the forest's key, and what each failure means."""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

import asyncssh

from morpheus.errors import InvalidInputError, MachineError, MorpheusError, RefusedError, UnreachableError
from morpheus.machine.ssh.way import ALGORITHM, Way, fingerprint, fingerprints

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells every channel

KEEPALIVE = 5.0  # seconds of silence until the machine is asked for a sign; three in vain end the connection
_NO_IPV6 = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# The first ones are fast on every processor of today; the others are for a machine that lacks them.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
# Only ours are accepted; the others let a stranger show what it has, instead of ending without a word.
_HOST_KEYS = (ALGORITHM, "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
_KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")


class Shut(StrEnum):
    """Why a machine does not let us in."""

    REFUSED = "refused"  # nothing listens on the port
    SILENT = "silent"  # no answer at all
    NO_ROUTE = "no route"
    NO_IPV6 = "no IPv6"  # this network has none
    NO_BANNER = "no banner"  # something listens, but does not speak SSH yet
    CUT = "cut"  # the connection ended while it was made
    KEY_REFUSED = "key refused"
    WRONG_HOST = "wrong host key"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds for each part of one try."""

    connect: float = 10.0
    banner: float = 5.0
    login: float = 10.0

    @property
    def total(self) -> float:
        return self.connect + self.banner + self.login


class ShutError(Exception):
    """The machine does not let us in; carries why, and the error for those who do not wait."""

    def __init__(self, why: Shut, error: MorpheusError) -> None:
        super().__init__(str(error))
        self.why, self.error = why, error


def read_key(text: str) -> asyncssh.SSHKey:
    """The private key out of its OpenSSH *text*.

    Raises:
        InvalidInputError: it is none; the text is not told.
    """
    try:
        return asyncssh.import_private_key(text)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        told = "The forest's SSH key cannot be read: it is no private key as OpenSSH writes it."
        raise InvalidInputError(told) from None


class Guard(asyncssh.SSHClient):
    """Lets in only machines that show an accepted key, and remembers what was shown and said."""

    def __init__(self, accepted: Collection[str]) -> None:
        self._accepted = accepted
        self._connection: asyncssh.SSHClientConnection | None = None
        self.shown: str | None = None
        self.at_loss: Callable[[], object] = lambda: None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        del host, addr, port
        self.shown = " ".join(key.export_public_key().decode().split()[:2])
        return self.shown in self._accepted

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.at_loss()

    @property
    def spoken(self) -> bool:
        """Whether the other side said that it speaks SSH."""
        return bool(self._connection and self._connection.get_extra_info("server_version"))

    def abort(self) -> None:
        if self._connection:
            self._connection.abort()


async def open_connection(
    name: str, way: Way, key: asyncssh.SSHKey, bounds: Bounds
) -> tuple[asyncssh.SSHClientConnection, Guard]:
    """Enter the machine of node *name*.

    Raises:
        ShutError: it does not let us in.
    """
    plug = await _plug(name, way, bounds.connect)
    guard = Guard(way.host_keys)
    entering = asyncio.ensure_future(_entered(way, key, guard, plug))
    try:
        await asyncio.wait([entering], timeout=bounds.banner)
        if guard.spoken:
            await asyncio.wait([entering], timeout=bounds.login)
        if not entering.done():
            raise TimeoutError
        return entering.result(), guard
    except BaseException as error:
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        guard.abort()
        if isinstance(error, (OSError, asyncssh.Error)):
            _tell(name, way, guard, error)
        raise


async def _plug(name: str, way: Way, timeout: float) -> socket.socket:  # noqa: ASYNC109  # one of several bounds
    version = ipaddress.ip_address(way.address).version
    plug = None
    try:
        plug = socket.socket(
            socket.AF_INET6 if version == 6 else socket.AF_INET,  # noqa: PLR2004  # the protocol
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,  # else asyncio takes it for something that cannot send small parts at once
        )
        plug.setblocking(False)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(plug, (way.address, way.port)), timeout)
    except BaseException as error:
        if plug:
            plug.close()
        if isinstance(error, OSError):
            _tell_unplugged(name, way, error, version)
        raise
    return plug


async def _entered(
    way: Way, key: asyncssh.SSHKey, guard: Guard, plug: socket.socket
) -> asyncssh.SSHClientConnection:
    """The connection over *plug*; nothing of this user's own SSH (keys, agent, hosts, settings) is used."""
    return await asyncssh.connect(
        way.address,
        way.port,
        sock=plug,
        config=None,
        client_factory=lambda: guard,
        known_hosts=([], [], []),  # so that the guard is asked about every key
        server_host_key_algs=_HOST_KEYS,
        username=way.user,
        client_keys=[key],
        agent_path=None,
        preferred_auth="publickey",
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_kex=False,
        gss_auth=False,
        x509_trusted_certs=None,
        kex_algs=_KEX,
        encryption_algs=_CIPHERS,
        compression_algs=None,
        keepalive_interval=KEEPALIVE,
        login_timeout=0,  # the bounds are ours
        client_version="Morpheus",
    )


def _tell_unplugged(name: str, way: Way, error: OSError, version: int) -> NoReturn:
    machine = f"{name} ({way.place})"
    if isinstance(error, ConnectionRefusedError):
        why, text = Shut.REFUSED, f"{machine} refuses SSH connections: its sshd does not run (yet)."
    elif version == 6 and error.errno in _NO_IPV6:  # noqa: PLR2004  # the protocol
        why, text = (
            Shut.NO_IPV6,
            (
                f"This network has no IPv6: {machine} cannot be reached from here. Use a network with IPv6, "
                "or plant machines that have IPv4 as well."
            ),
        )
    elif isinstance(error, TimeoutError):
        why, text = (
            Shut.SILENT,
            f"{machine} does not answer: it does not run (yet), or a firewall is between.",
        )
    else:
        why, text = Shut.NO_ROUTE, f"{machine} cannot be reached: {(error.strerror or str(error)).lower()}."
    raise ShutError(why, UnreachableError(text)) from error


def _tell(name: str, way: Way, guard: Guard, error: Exception) -> NoReturn:
    machine = f"{name} ({way.place})"
    if guard.shown and guard.shown not in way.host_keys:
        raise ShutError(Shut.WRONG_HOST, wrong_host(name, way, fingerprint(guard.shown))) from error
    if isinstance(error, asyncssh.PermissionDenied):
        refused = MachineError(f"{machine} does not accept the forest's SSH key for {way.user}.")
        raise ShutError(Shut.KEY_REFUSED, refused) from error
    if not guard.spoken and isinstance(error, TimeoutError):
        late = UnreachableError(f"{machine} accepts connections, but no SSH server speaks there (yet).")
        raise ShutError(Shut.NO_BANNER, late) from error
    ended = "did not come about in time" if isinstance(error, TimeoutError) else f"was cut ({error})"
    raise ShutError(Shut.CUT, UnreachableError(f"The SSH connection to {machine} {ended}.")) from error


def wrong_host(name: str, way: Way, shown: str) -> RefusedError:
    return RefusedError(
        f"{name} ({way.place}) shows another host key than its own: expected {fingerprints(way.host_keys)}, "
        f"got {shown}. Either the machine was rebuilt or its address belongs to another one now, or somebody "
        "stands between. Nothing was sent to it. Look at the machine in its provider's console; if it is not "
        "the one that was planted, take the node out of the forest."
    )

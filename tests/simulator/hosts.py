"""Where the simulator's servers become machines: what it tells whoever runs them.

Without anybody nothing of this happens, and a server is a record that says ``running``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.simulator.state import Json


@dataclass(frozen=True, kw_only=True)
class Birth:
    """What a machine is given with its first breath; ``ipv6`` is its network, ``2001:db8:1:2::/64``."""

    number: int
    name: str
    image: str
    ipv6: str | None
    ipv4: str | None
    user_data: str = ""
    ssh_keys: tuple[str, ...] = ()
    root_password: str | None = None
    location: str = "fsn1"
    zone: str = "eu-central"


class Hosts(Protocol):
    """Machines by the numbers of their servers.

    No method waits for a machine: what is ordered for one happens in its order, beside the others.
    """

    def act(self, command: str, birth: Birth) -> None:
        """Let a *command* of the API, ``start_server`` or ``delete_server``, have its effect."""

    def guard(self, number: int, rules: Sequence[Json] | None) -> None:
        """Enforce these rules on a machine from now on; None leaves it open to everybody."""

    def stopped(self, number: int) -> bool:
        """Whether a machine has switched itself off."""

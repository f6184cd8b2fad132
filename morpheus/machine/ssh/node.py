"""The machine of a node from its birth on: entered for the first time, made ours, looked at."""

from morpheus.machine.ssh import rotation
from morpheus.machine.ssh.entering import wait_entered
from morpheus.machine.ssh.machine import SshMachine

# $1 the store, $2 our marker; a store that is gone holds nothing
_ANYTHING = """
[ -d "$1" ] || exit 0
exec find "$1" -ignore_readdir_race -type f ! -path "$2" -print -quit
"""


class SshNode(SshMachine):
    """A machine of the cloud's, from its birth on."""

    def enter(self, timeout: float) -> None:
        wait_entered(self, timeout=timeout)

    def make_host_key(self) -> str:
        return rotation.made_key(self)

    def take_host_key(self) -> None:
        key = rotation.made_key(self)
        rotation.activate(self, key)
        rotation.retire_birth(self.accepting(key))

    def was_started(self) -> bool:
        """Whether a NATS server ever wrote here: anything beside our marker."""
        store, marker = self.layout.store, self.layout.marker
        return bool(self.ask("look into its store", _ANYTHING, store, marker).strip())

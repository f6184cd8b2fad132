"""What a machine of embedded mode needs to read its forest's home in the Storage Box.

Where the machine has CIFS (the package cifs-utils), the home is mounted at /mnt/forest. Everywhere else a
timer fetches registry.json over WebDAV and keeps the last good copy in the same place, so that nobody who
reads it has to know.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from morpheus.errors import MachineError
from morpheus.machine import Machine, places
from morpheus.machine.cloudinit import templates
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.share")

MOUNT, SYNC, TIMER = "mnt-forest.mount", "forest-registry.service", "forest-registry.timer"
FETCH_TIMEOUT = 300.0  # seconds for a program

# $1 curl's settings, $2 address, $3 path, $4 SHA-256 sum: prints "same" or "changed".
FETCH = """
set -eu
if [ -f "$3" ] && [ "$(sha256sum < "$3")" = "$4  -" ]; then echo same; exit; fi
new=$(mktemp "${3%/*}/.morpheus.XXXXXX")
trap 'rm -f "$new"' EXIT
curl --config "$1" --fail --silent --show-error --connect-timeout 10 --output "$new" "$2"
[ "$(sha256sum < "$new")" = "$4  -" ] || { echo "what came has another SHA-256 sum" >&2; exit 1; }
chmod 755 "$new"
sync "$new"
mv -fT "$new" "$3"
echo changed
"""

# $1 mount, $2 timer, $3 service: what cannot be mounted is fetched.
ENABLE = """
set -eu
systemctl daemon-reload
systemctl enable --quiet "$1" "$2"
systemctl start "$1" || :
systemctl start "$2"
"""


@dataclass(frozen=True, slots=True)
class Share:
    """The home of a forest as its nodes open it; ``host`` may have a port."""

    host: str
    username: str
    password: str = field(repr=False)

    def url(self, name: str) -> str:
        return f"https://{self.host}/{name}"


def files(share: Share) -> Mapping[str, tuple[str, int]]:
    """Everything that is put onto a machine: path, text and mode."""
    facts = {"places": places, "share": share, "MOUNT": MOUNT, "SYNC": SYNC, "TIMER": TIMER}
    rendered = {
        places.SHARE_SETTINGS: ("share.curl", 0o600),
        places.SHARE_CREDENTIALS: ("share.credentials", 0o600),
        places.SHARE_SYNC: ("forest-registry.sh", 0o755),
        f"{places.UNIT_FOLDER}/{MOUNT}": (MOUNT, 0o644),
        f"{places.UNIT_FOLDER}/{SYNC}": (SYNC, 0o644),
        f"{places.UNIT_FOLDER}/{TIMER}": (TIMER, 0o644),
    }
    return {
        path: (templates().get_template(f"{name}.j2").render(facts), mode)
        for path, (name, mode) in rendered.items()
    }


def fetch(machine: Machine, share: Share, name: str, path: str, content: bytes) -> bool:
    """Let *machine* fetch the program *name* of its forest's home to *path*; whether anything was different.

    Raises:
        MachineError: it cannot; what is there is as it was.
    """
    digest = hashlib.sha256(content).hexdigest()
    text, mode = files(share)[places.SHARE_SETTINGS]
    machine.put(places.SHARE_SETTINGS, text.encode(), mode=mode)
    where = (places.SHARE_SETTINGS, share.url(name), path, digest)
    said = machine.run("/bin/sh", "-c", FETCH, "fetch", *where, timeout=FETCH_TIMEOUT)
    return said.strip() == "changed"


def take(machine: Machine, part: bytes, *, timeout: float) -> None:
    """Have *machine* look into its forest's home from now on; return when it has *part* as its registry.

    Raises:
        NotReadyError: it has not within *timeout* seconds; says what it met.
    """
    machine.run("/bin/sh", "-c", ENABLE, "enable", MOUNT, TIMER)

    def has_it() -> str:
        if machine.read(places.KNOWN) == part:
            return ""
        try:
            machine.run("systemctl", "start", SYNC, timeout=60)
        except MachineError:
            return f"it cannot fetch it: {_last_words(machine)}"
        return "" if machine.read(places.KNOWN) == part else "it has another one"

    wait_until(
        f"{machine.name} to have its forest's part of the registry",
        has_it,
        lambda fault: not fault,
        str,
        timeout=timeout,
        interval=0.5,
    )


def _last_words(machine: Machine) -> str:
    """What the service itself said last."""
    said = machine.run("journalctl", "-q", "--no-pager", "-o", "cat", "-n", "2", f"_SYSTEMD_UNIT={SYNC}")
    return "; ".join(said.split("\n")).strip("; ") or "it said nothing"

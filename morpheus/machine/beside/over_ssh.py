"""On a machine of its own: a second unit and store of NATS, and a fence that a unit of the machine lifts."""

import time
from collections.abc import Mapping

from morpheus.forest import Ports
from morpheus.machine import NATS, Layout, Program, places
from morpheus.machine.beside import ASIDE, CALM, LIFTS_AFTER, NOT_READ, READ, RELOAD_TIMEOUT, lifted
from morpheus.machine.cloudinit import templates
from morpheus.machine.ssh import SshNode
from morpheus.machine.ssh.scripts import LIFTED

UNIT, WATCHMAN = "nats-beside.service", "nats-fence.service"
LAYOUT = Layout(
    config=f"{places.SETTINGS}/beside/nats.conf",
    cluster=f"{places.SETTINGS}/beside/cluster.conf",
    store=f"{places.STORE}-beside",
    log=f"{places.LOGS}/nats-beside.log",
)
KEPT = f"{places.STORE}-before"
RENEWED_EVERY = 5.0  # seconds between two renewals; more of them would only cost time
_SCRIPT = f"{places.FENCE}/fence.sh"
CLOSE_TIMEOUT = 120.0  # seconds for a server to stop

# $1 user, $2 the unit of the first server, $3 that of the second, $4 and so on: pairs of a path of the first
# and the one in its place; the first pair is that of the stores. A folder that is a link is not ours.
PREPARE = """
set -eu
user=$1 first=$2 second=$3 store=$5
shift 3
for each in "$store" "$store/jetstream" "$store/jetstream/APP"; do
  if [ -L "$each" ]; then echo "$each is a link" >&2; exit 1; fi
  install -d -o "$user" -g "$user" -m 0700 "$each"
done
text=$(cat "$first")
while [ $# -gt 0 ]; do
  text=$(printf '%s\\n' "$text" | sed "s#$1#$2#g")
  shift 2
done
printf '%s\\n' "$text" > "$second.new"
chmod 0644 "$second.new"
mv -fT "$second.new" "$second"
systemctl daemon-reload
"""

# $1 the new store, $2 that in the place of which it comes at the end
FREE = """
if mountpoint -q "$2"; then echo "$2 is a mount point, so no other store can take its place" >&2; exit 1; fi
exec df --output=avail -B1 "${1%/*}"
"""

# $1 the new store, $2 the place, $3 where the old one is kept
EXCHANGE = """
set -eu
[ -d "$1" ] || exit 0
if [ -d "$2" ]; then mv -T "$2" "$3"; fi
mv -T "$1" "$2"
sync "${2%/*}"
"""

# $1 turn, $2 store, $3 folder of the settings, $4 log, $5 folder of the fence, $6 of the units, which follow
REMOVE = f"""
set -u
turn=$1 store=$2 settings=$3 log=$4 fence=$5 folder=$6
shift 6
heard=$(cat "$fence/turn" 2>/dev/null)
[ "$turn" -ge "${{heard:-0}}" ] || exit {LIFTED}
for each in "$@"; do
  [ -e "$folder/$each" ] || continue
  systemctl disable --quiet --no-reload "$each"
  systemctl stop "$each"
  rm -f "$folder/$each"
done
rm -rf "$store" "$settings" "$fence"
rm -f "$log" "$log".*
exec systemctl daemon-reload
"""

FIND = """
[ ! -d "$1" ] || echo kept
"""

DISCARD = """
exec rm -rf "$1"
"""

# $1 the script, $2 and so on what it is to do; where there is none there is no fence
CALL = f"""
script=$1
shift
if [ -e "$script" ]; then exec /bin/sh "$script" "$@"; fi
[ "$1" = lift ] || exit {LIFTED}
"""


class SshBeside:
    """The place of a second server on the machine *first*."""

    def __init__(self, first: SshNode) -> None:
        self._first, self._second = first, first.standing(LAYOUT, {NATS: UNIT})

    @property
    def machine(self) -> SshNode:
        return self._second

    @property
    def kept(self) -> str:
        return KEPT

    def prepare(self, marker: bytes, first: Ports) -> None:
        del first  # the standard ports have others beside them, which are free on a machine of its own
        old, new = self._first.layout, LAYOUT
        pairs = ((old.store, new.store), (old.config, new.config), (old.cluster, new.cluster))
        self._first.ask(
            "make room for a second server",
            PREPARE,
            *(places.NATS_USER, places.unit_path(NATS), f"{places.UNIT_FOLDER}/{UNIT}"),
            *(path for pair in pairs for path in pair),
        )
        self._second.put(new.marker, marker, owner=f"{places.NATS_USER}:{places.NATS_USER}")

    def ports(self) -> Mapping[str, str]:
        if self._second.read(LAYOUT.marker) is None:
            return {}
        usual = Ports()
        return {"client_port": str(usual.client + ASIDE), "monitor_port": str(usual.monitor + ASIDE)}

    def free(self) -> int:
        stores = (LAYOUT.store, self._first.layout.store)
        return int(self._first.ask("make room for a second store", FREE, *stores).split()[-1])

    def fence(self, server: Program, turn: int, lifts_after: float = LIFTS_AFTER) -> "SshFence":
        del server  # its unit knows how it is started
        return SshFence(self._first, turn, lifts_after=lifts_after)

    def exchange(self) -> None:
        self._first.ask("exchange the stores", EXCHANGE, LAYOUT.store, self._first.layout.store, KEPT)

    def exchanged(self) -> bool:
        return bool(self._first.ask("look for the old store", FIND, KEPT).strip())

    def remove(self, turn: int) -> None:
        code = self._first.do(
            "remove what was beside",
            REMOVE,
            *(str(turn), LAYOUT.store, LAYOUT.config.rpartition("/")[0], LAYOUT.log, places.FENCE),
            *(places.UNIT_FOLDER, UNIT, WATCHMAN),
            timeout=CLOSE_TIMEOUT,
            fine=(0, LIFTED),
        )
        if code == LIFTED:
            raise lifted(self._first.name)

    def discard(self) -> None:
        self._first.ask("remove the old store", DISCARD, KEPT, timeout=CLOSE_TIMEOUT)


class SshFence:
    """The fence around the server of *machine*."""

    def __init__(self, machine: SshNode, turn: int, *, lifts_after: float = LIFTS_AFTER) -> None:
        self._machine, self._turn, self._lifts_after = machine, turn, lifts_after
        self._renewed = float("-inf")

    def arm(self, guarded: bytes) -> None:
        self.lift()
        for path, text in self._files().items():
            self._machine.put(path, text.encode(), mode=0o644)
        try:
            self._call("arm", given=guarded, timeout=RELOAD_TIMEOUT + 30.0)
        except BaseException:
            self.lift()
            raise
        self._renewed = time.monotonic()
        time.sleep(CALM)

    def renew(self) -> None:
        if time.monotonic() - self._renewed < min(RENEWED_EVERY, self._lifts_after / 4):
            return
        asked = time.monotonic()
        self._call("renew")
        self._renewed = asked

    def close(self) -> None:
        self._call("close", timeout=CLOSE_TIMEOUT)

    def lift(self) -> None:
        self._call("lift", timeout=CLOSE_TIMEOUT)

    def _files(self) -> Mapping[str, str]:
        facts = {
            "places": places,
            "server": places.UNITS[NATS],
            "watchman": WATCHMAN,
            "lifts_after": f"{self._lifts_after:.0f}",
            "looks": f"{RELOAD_TIMEOUT / 0.05:.0f}",
            "read": f'"{READ}"',
            "not_read": f'"{NOT_READ}"',
            "lifted": LIFTED,
        }
        rendered = {_SCRIPT: "nats-fence.sh.j2", f"{places.UNIT_FOLDER}/{WATCHMAN}": "nats-fence.service.j2"}
        return {path: templates().get_template(name).render(facts) for path, name in rendered.items()}

    def _call(self, what: str, given: bytes = b"", timeout: float = 30.0) -> None:
        """Have the script on the machine do it.

        Raises:
            OvertakenError: the fence does not hold any more.
        """
        code = self._machine.do(
            f"{what} the fence",
            CALL,
            *(_SCRIPT, what, str(self._turn)),
            given=given,
            timeout=timeout,
            fine=(0, LIFTED),
        )
        if code == LIFTED:
            raise lifted(self._machine.name)

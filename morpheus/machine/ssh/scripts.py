"""What machines are asked to do for one call, as scripts for their /bin/sh: one round trip each.

Their arguments come as "$1", "$2", ... so that nothing is ever pasted into a script.
"""

import shlex

KILL_AFTER = 2  # seconds for a command to end by itself once its time is over
OVER = (124, 137)  # how timeout(1) ends when the time was over

NOT_THERE = 44
LIFTED = 45  # a fence does not hold any more
READ = f"""
[ -e "$1" ] || exit {NOT_THERE}
exec cat -- "$1"
"""

# $1 path, $2 mode, $3 owner or nothing, $4 sha256: prints "same", "changed" (mode or owner) or "send".
COMPARE = """
set -eu
if ! [ -f "$1" ] || [ "$(sha256sum < "$1")" != "$4  -" ]; then echo send; exit; fi
before=$(stat -c '%a %u %g' "$1")
[ -z "$3" ] || chown "$3" "$1"
chmod "$2" "$1"
if [ "$before" = "$(stat -c '%a %u %g' "$1")" ]; then echo same; else echo changed; fi
"""

# The same arguments, the content as input. A connection that is cut ends the input early: hence the sum.
# A folder made on the way is like the one above it: what lies in the store of NATS belongs to NATS.
PUT = """
set -eu
make() {
  if [ -z "$1" ] || [ -d "$1" ]; then return; fi
  make "${1%/*}"
  mkdir "$1" || [ -d "$1" ]
  above=${1%/*}
  chown --reference="${above:-/}" "$1" 2>/dev/null || :
  chmod --reference="${above:-/}" "$1"
}
make "${1%/*}"
new=$(mktemp "${1%/*}/.morpheus.XXXXXX")
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat > "$new"
if [ "$(sha256sum < "$new")" != "$4  -" ]; then echo "only a part of it arrived" >&2; exit 1; fi
if [ -e "$1" ]; then chown --reference="$1" "$new"; fi
if [ -n "$3" ]; then chown "$3" "$new"; fi
chmod "$2" "$new"
if [ -f "$1" ] && [ "$(stat -c '%a %u %g' "$1")" = "$(stat -c '%a %u %g' "$new")" ] && cmp -s "$1" "$new"
then echo same; exit; fi
sync "$new"
mv -fT "$new" "$1"
trap - EXIT
sync "${1%/*}"
echo changed
"""

ENDED = 3
# $1 unit, $2 log file, $3 how often to look (50 times a second), then the ports: starts the unit and looks on
# until its main process listens on all of them; from then on it also starts with the machine. One that ended
# is stopped, and its last words are printed.
START = f"""
set -u
unit=$1 log=$2 left=$3
shift 3
begun() {{ exec systemctl enable --quiet --no-reload "$unit"; }}
if systemctl is-active --quiet "$unit"; then begun; fi
systemctl reset-failed "$unit" 2>/dev/null
said=$(stat -c %s "$log" 2>/dev/null || echo 0)
systemctl start "$unit"
state=$(systemctl show -p MainPID,InvocationID,ConditionResult "$unit")
field() {{ echo "$state" | sed -n "s/^$1=//p"; }}
pid=$(field MainPID) run=$(field InvocationID)
while [ "${{pid:-0}}" != 0 ] && [ -e "/proc/$pid/exe" ]; do
  all=$#
  for port in "$@"; do
    if ss -Hltnp "sport = :$port" | grep -q "pid=$pid,"; then all=$((all - 1)); fi
  done
  left=$((left - 1))
  if [ "$left" -le 0 ] || {{ [ $# -gt 0 ] && [ "$all" = 0 ]; }}; then begun; fi
  sleep 0.02
done
systemctl stop "$unit" 2>/dev/null
journalctl --sync
if [ "$(field ConditionResult)" = no ]; then echo "a Condition of its unit is not met"
else journalctl -q --no-pager -o cat -n 6 _SYSTEMD_INVOCATION_ID="$run" + INVOCATION_ID="$run"; fi
if [ -f "$log" ]; then tail -c "+$((said + 1))" "$log" | tail -n 3; fi
exit {ENDED}
"""

RELOAD = """
systemctl is-active --quiet "$1" || exit 0
exec systemctl reload "$1"
"""

# It does not start with the machine any more, either: a node that was taken out must not come back.
STOP = """
systemctl disable --quiet --no-reload "$1" && systemctl stop "$1" && exit
[ "$(systemctl show --value -p LoadState "$1")" = not-found ]
"""

PID = """
exec systemctl show --value -p MainPID "$1"
"""

# $1 the folder of cloud-init's state, $2 how often to look (20 times a second): returns as soon as it
# has ended. To ask cloud-init itself costs a start of Python each time.
BORN = """
left=$2
until [ -e "$1/result.json" ] || [ "$left" -le 0 ] || [ -e "$1/disabled" ]; do
  left=$((left - 1))
  sleep 0.05
done
result=$(cat "$1/result.json" 2>/dev/null)
status=$(cat "$1/status.json" 2>/dev/null)
if [ -e "$1/disabled" ]; then off=true; else off=false; fi
[ -n "$result" ] || unit=$(systemctl show --value -p ActiveState cloud-final.service 2>/dev/null)
printf '{"result": %s, "status": %s, "off": %s, "unit": "%s"}' \
  "${result:-null}" "${status:-null}" "$off" "${unit:-}"
"""

# $1 the folder of sshd's settings: prints whether keys of the birth are left, and the machine's
# own, if it is made.
LOOK_AT_KEYS = """
set -eu
for each in "$1"/ssh_host_*; do
  if [ -e "$each" ]; then echo left; else echo none; fi
  break
done
[ ! -s "$1/morpheus_host_key" ] || exec ssh-keygen -y -f "$1/morpheus_host_key"
"""

# Prints the public half. The key is there whole or not at all; of two who make one, both get the first's.
MAKE_KEY = """
set -eu
key="$1/morpheus_host_key"
if ! [ -s "$key" ]; then
  new=$(mktemp -d "$1/.morpheus.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  ssh-keygen -q -t ed25519 -N "" -C "" -f "$new/key"
  sync "$new/key"
  ln "$new/key" "$key" 2>/dev/null || [ -s "$key" ]
  sync "$1"
fi
ssh-keygen -y -f "$key"
"""

# With settings that it cannot read sshd would not start again, so they are tried first; and last whether the
# settings of this machine include ours at all.
ACTIVATE = """
set -eu
PATH=$PATH:/usr/sbin
ours="HostKey $1/morpheus_host_key"
folder="$1/sshd_config.d"
new=$(mktemp "$1/.morpheus.XXXXXX")
trap 'rm -f "$new"' EXIT
{ echo "$ours"; cat "$1/sshd_config"; } > "$new"
sshd -t -f "$new"
echo "$ours" > "$new"
chmod 644 "$new"
sync "$new"
mkdir -p "$folder"
mv -fT "$new" "$folder/00-morpheus.conf"
trap - EXIT
sync "$folder"
if ! sshd -T -f "$1/sshd_config" | grep -qix "$ours"; then
  rm -f "$folder/00-morpheus.conf"
  echo "its sshd_config does not include $folder" >&2
  exit 1
fi
exec systemctl try-reload-or-restart ssh.service
"""

RETIRE = """
set -eu
[ -s "$1/sshd_config.d/00-morpheus.conf" ]
rm -f "$1"/ssh_host_*
sync "$1"
"""

TAIL = """
[ ! -e "$1" ] || exec tail -n 15 "$1"
"""


def line(script: str, *arguments: str, timeout: float) -> str:
    """*script* as a line for a login shell; it ends itself after *timeout* seconds."""
    return bounded("/bin/sh", "-c", script.strip(), "morpheus", *arguments, timeout=timeout)


def bounded(*argv: str, timeout: float) -> str:
    """A command as a line for a login shell; what hangs is killed on the machine, too."""
    return shlex.join(("exec", "timeout", "-k", str(KILL_AFTER), f"{timeout:.3f}", *argv))

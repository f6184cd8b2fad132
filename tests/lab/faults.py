"""What is to go wrong at the birth of a host, by its name, which may be a pattern: ``oak-node-*``.

It is planted on the fresh disk, so a rebuilt host has it again, unless it was cleared. What goes wrong later
is done to the host itself: ``power_cut``, ``unplug``, ``fill_disk``, and ``Lab.partition``.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

UNITS = "etc/systemd/system"
# Only the first start of sshd is late, until it is over: cloud-init may start it anew while it waits.
ONCE = "/var/lib/late"
LATE = """\
[Service]
ExecStartPre=/bin/sh -c 'test -e {once} || {{ {wait}; touch {once}; }}'
TimeoutStartSec=infinity
"""
# What accepts connections on port 22 in sshd's place, and says nothing: an open port is not readiness. What
# comes is led there, so that sshd, which cloud-init starts anew in mid-birth, finds its own port free.
MUTE = """\
import socket, subprocess, time
listener = socket.create_server(("::", 2222), family=socket.AF_INET6, dualstack_ipv6=True)
lead = '''
    add table inet mute
    add chain inet mute door {{ type nat hook prerouting priority -100; }}
    add rule inet mute door tcp dport 22 redirect to :2222
'''
subprocess.run(["nft", "-f", "-"], input=lead, text=True, check=True)
time.sleep({seconds})
subprocess.run(["nft", "delete table inet mute"], check=True)
"""
MUTE_UNIT = """\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/mute.py
"""


@dataclass
class BirthFaults:
    _files: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def clear(self) -> None:
        self._files.clear()

    def sshd_late(self, name: str, seconds: float) -> None:
        """Port 22 refuses for a while, although the machine runs."""
        late = LATE.format(once=ONCE, wait=f"sleep {seconds}")
        self._add(name, {f"{UNITS}/ssh.service.d/late.conf": late})

    def banner_late(self, name: str, seconds: float) -> None:
        """Port 22 accepts connections and says nothing for a while."""
        files = {
            f"{UNITS}/mute.service": MUTE_UNIT,
            f"{UNITS}/sysinit.target.d/mute.conf": "[Unit]\nWants=mute.service\n",
            "usr/local/lib/mute.py": MUTE.format(seconds=seconds),
        }
        self._add(name, files)

    def keys_late(self, name: str, seconds: float) -> None:
        """No key is accepted for a while after sshd has started."""
        drop = "/etc/ssh/sshd_config.d/00-late.conf"
        late = (
            f"[Service]\nExecStartPost=/usr/bin/systemd-run --no-block /bin/sh -c "
            f"'test -e {drop} && {{ sleep {seconds}; rm {drop}; systemctl reload ssh; }}'\n"
        )
        nowhere = "AuthorizedKeysFile /nonexistent\n"
        self._add(name, {f"{UNITS}/ssh.service.d/keys.conf": late, drop[1:]: nowhere})

    def cloud_init_error(self, name: str) -> None:
        """cloud-init ends in an error, although SSH works."""
        script = "#!/bin/sh\necho 'the lab has broken this birth' >&2\nexit 1\n"
        self._add(name, {"var/lib/cloud/scripts/per-instance/broken.sh": script})

    def plant(self, name: str, root: Path) -> None:
        """Write onto a fresh disk what goes wrong there."""
        for pattern, files in self._files:
            for place, text in files.items() if fnmatchcase(name, pattern) else ():
                path = root / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                path.chmod(0o755 if text.startswith("#!") else 0o644)

    def _add(self, name: str, files: dict[str, str]) -> None:
        self._files.append((name, files))

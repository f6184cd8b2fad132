"""What a base system is made of. A change of this file is a new base: its text is hashed into the name.

As near to the provider's images as a container can be: root logs in, cloud-init runs at every boot. What only
costs time in a container (timers, consoles, waits for hardware) is masked.
"""

from pathlib import Path

SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "cloud-init",
    "iproute2",
    "iputils-ping",
    "curl",
    "ca-certificates",
    "nftables",
    "sudo",
    "python3",
    "netbase",
    "jq",
    "unattended-upgrades",
)
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "logrotate.timer",
    "man-db.timer",
    "networking.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "unattended-upgrades.service",
)
FILES = {
    # The lab gives the addresses, as the provider's metadata would; root is who logs in. No key that is made
    # at length, no locale to be generated, no boot loader to be told where it lies.
    "etc/cloud/cloud.cfg.d/90-provider.cfg": """\
datasource_list: [NoCloud]
network: {config: disabled}
disable_root: false
manage_etc_hosts: true
locale: false
ssh_genkeytypes: [ecdsa, ed25519]
ssh: {emit_keys_to_console: false}
grub_dpkg: {enabled: false}
system_info:
  default_user:
    name: root
    lock_passwd: false
""",
    "etc/ssh/sshd_config.d/10-provider.conf": "PermitRootLogin yes\n",
    "etc/resolv.conf": "nameserver 2a01:4ff:ff00::add:1\nnameserver 2a01:4ff:ff00::add:2\n",
    "etc/machine-id": "",
    "etc/.updated": "",  # nothing waits to be brought up to date with /usr at the first boot
    "var/.updated": "",
}
REMOVED = (
    "etc/apt/apt.conf.d",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/hostname",
    "etc/ssh/ssh_host_*",
    "usr/sbin/policy-rc.d",
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/log/*.log",
    "var/log/apt",
)


def text() -> str:
    """The recipe as it stands, to tell one from another."""
    return Path(__file__).read_text(encoding="utf-8")

"""What a machine finds on its disk at its birth: cloud-init's seed, as the metadata would give it."""

import json
from pathlib import Path

from tests.simulator.hosts import Birth

SEED = "var/lib/cloud/seed/nocloud"


def plant(birth: Birth, root: Path) -> None:
    """Write the seed into a fresh disk."""
    folder = root / SEED
    folder.mkdir(parents=True)
    told = {
        "instance-id": str(birth.number),
        "local-hostname": birth.name,
        "public-keys": list(birth.ssh_keys),
    }
    (folder / "meta-data").write_text(json.dumps(told), encoding="utf-8")
    (folder / "user-data").write_text(birth.user_data, encoding="utf-8")
    (folder / "vendor-data").write_text(vendor_data(birth), encoding="utf-8")


def vendor_data(birth: Birth) -> str:
    """Without a key root gets a password, which is expired: the first login has to change it."""
    told: dict[str, object] = {}
    if birth.root_password:
        users = [{"name": "root", "password": birth.root_password, "type": "text"}]
        told = {"ssh_pwauth": True, "chpasswd": {"expire": True, "users": users}}
    return f"#cloud-config\n{json.dumps(told)}\n"

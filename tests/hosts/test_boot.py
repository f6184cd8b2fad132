"""A host is a whole Debian that boots with the user_data it was given."""

import json

import pytest

from tests.hosts.conftest import Boot
from tests.lab.visitors import Visitor

pytestmark = pytest.mark.root

USER_DATA = """\
#cloud-config
write_files:
  - path: /etc/planted
    content: by cloud-init
runcmd:
  - [sh, -c, "hostname > /etc/named"]
"""


@pytest.mark.parametrize("image", ["debian-12", "debian-13"])
def test_a_host_does_what_its_user_data_says_and_is_well(boot: Boot, visitor: Visitor, image: str) -> None:
    host = visitor.born(boot(image=image, user_data=USER_DATA))

    status = json.loads(visitor.ssh(host, "cloud-init status --format json").stdout)
    system = visitor.ssh(host, "systemctl is-system-running --wait").stdout

    assert (status["status"], status["errors"]) == ("done", [])
    assert system == "running\n"
    assert visitor.ssh(host, "cat /etc/planted /etc/named").stdout == f"by cloud-init{host.name}\n"
    release = f'VERSION_ID="{image.removeprefix("debian-")}"'
    assert release in visitor.ssh(host, "cat /etc/os-release").stdout
    assert visitor.ssh(host, "cloud-init schema --system").returncode == 0

"""morpheus check: SSH keys that are missing, broken, open to others or locked."""

import os
import subprocess

import pytest

from tests.hetzner.check.device import Device, keygen
from tests.hetzner.project import public_key


def test_no_key_at_all(device: Device) -> None:
    device.machine["ssh"] = {}

    code, says = device.failed("ssh")

    assert (code, "ssh-keygen" in says) == (8, True)


def test_a_key_in_its_usual_place_is_found(device: Device) -> None:
    device.machine["ssh"] = {}
    (device.folder / ".ssh").mkdir()
    keygen(device.folder / ".ssh" / "id_ed25519")

    assert device.check("ssh")[1][0]["says"].endswith("id_ed25519 can be loaded")


def test_a_public_half_alone_is_not_enough(device: Device) -> None:
    (device.folder / "key").unlink()

    code, says = device.failed("ssh")

    assert (code, "neither there nor in the agent" in says) == (8, True)


def test_two_halves_of_different_keys_are_told_apart(device: Device) -> None:
    (device.folder / "key.pub").write_text(public_key(7))

    code, says = device.failed("ssh")

    assert (code, "is another key than" in says) == (2, True)


@pytest.mark.parametrize("text", ["", "no key\n"], ids=["empty", "text"])
def test_a_broken_private_half_is_told(device: Device, text: str) -> None:
    (device.folder / "key").write_text(text)

    code, says = device.failed("ssh")

    assert (code, "cannot be loaded" in says) == (2, True)


def test_a_private_half_that_others_may_read_is_refused_as_ssh_does(device: Device) -> None:
    (device.folder / "key").chmod(0o644)

    code, says = device.failed("ssh")

    assert (code, says.endswith(f"chmod 600 {device.folder / 'key'}")) == (2, True)


@pytest.mark.servers  # needs ssh-agent
def test_a_passphrase_needs_an_agent_that_knows_the_key(device: Device, agent: None) -> None:
    key = device.folder / "locked"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "correct horse", "-f", str(key)]
    subprocess.run(command, check=True)
    device.machine["ssh"] = {"key_path": str(key)}

    code, says = device.failed("ssh")
    assert (code, f"ssh-add {key}" in says) == (8, True)

    ask = device.folder / "ask"
    ask.write_text("#!/bin/sh\necho correct horse\n")
    ask.chmod(0o700)
    more = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, **more}, check=True)

    assert device.check("ssh")[1][0]["says"].endswith("the agent has its private half")


@pytest.mark.servers  # needs ssh-agent
def test_a_key_that_only_the_agent_has_is_enough(device: Device, agent: None) -> None:
    device.machine["ssh"] = {}
    subprocess.run(["ssh-add", "-q", str(device.folder / "key")], check=True)

    assert device.check("ssh")[0] == 0

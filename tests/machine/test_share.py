"""What a machine is given to read its forest's home: golden texts, and where it stands."""

from pathlib import Path

import pytest

from morpheus.errors import MachineError, NotReadyError
from morpheus.machine import places, share
from morpheus.machine.share import ENABLE, FETCH, MOUNT, SYNC, TIMER, Share
from tests.fake_cloud import FakeMachine

GOLDEN = Path(__file__).parent / "golden" / "share"
SHARED = Share("u1337-sub2.your-storagebox.de", "u1337-sub2", "Aa9-secret.of,the;forest")
ENABLED = ("/bin/sh", "-c", ENABLE, "enable", MOUNT, TIMER)
SYNCED = ("systemctl", "start", SYNC)
TOLD = ("journalctl", "-q", "--no-pager", "-o", "cat", "-n", "2", f"_SYSTEMD_UNIT={SYNC}")


@pytest.mark.parametrize("path", sorted(share.files(SHARED)))
def test_every_file_is_the_golden_one(path: str) -> None:
    text, mode = share.files(SHARED)[path]

    assert text == (GOLDEN / path.rpartition("/")[2]).read_text()
    assert mode == {"curl": 0o600, "credentials": 0o600, "forest-registry": 0o755}.get(
        path.rpartition(".")[2].rpartition("/")[2], 0o644
    )


def test_the_password_stands_in_the_two_files_that_root_alone_reads() -> None:
    holding = {path for path, (text, _) in share.files(SHARED).items() if SHARED.password in text}

    assert holding == {places.SHARE_SETTINGS, places.SHARE_CREDENTIALS}
    assert SHARED.password not in repr(SHARED)


def test_the_mount_is_the_share_of_the_account_read_only_and_nothing_waits_for_it() -> None:
    text, _ = share.files(SHARED)[f"/etc/systemd/system/{MOUNT}"]
    (options,) = (line.removeprefix("Options=") for line in text.splitlines() if line.startswith("Options="))

    assert "What=//u1337-sub2.your-storagebox.de/u1337-sub2\nWhere=/mnt/forest\nType=cifs\n" in text
    assert {"ro", "_netdev", "nofail", "uid=nimsforest", f"credentials={places.SHARE_CREDENTIALS}"} <= set(
        options.split(",")
    )
    assert "WantedBy=remote-fs.target" in text


def test_a_machine_that_has_the_part_asks_nobody() -> None:
    machine = FakeMachine("oak-node-1")
    machine.answers[ENABLED] = ""
    machine.files[places.KNOWN] = b"the part"

    share.take(machine, b"the part", timeout=1)

    assert machine.commands == [ENABLED]


def test_a_machine_that_cannot_fetch_says_why() -> None:
    machine = FakeMachine("oak-node-1")
    machine.answers |= {ENABLED: "", SYNCED: MachineError("no"), TOLD: "curl: (22) 401\n"}

    with pytest.raises(NotReadyError, match=r"last seen: it cannot fetch it: curl: \(22\) 401\."):
        share.take(machine, b"the part", timeout=0)


def test_a_machine_with_an_old_copy_is_waited_for() -> None:
    machine = FakeMachine("oak-node-1")
    machine.answers |= {ENABLED: "", SYNCED: ""}
    machine.files[places.KNOWN] = b"an old part"

    with pytest.raises(NotReadyError, match="last seen: it has another one"):
        share.take(machine, b"the part", timeout=0)


def test_a_program_is_fetched_with_the_settings_in_place() -> None:
    machine = FakeMachine("oak-node-1")
    url = SHARED.url("bin/x")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc"
    running = ("/bin/sh", "-c", FETCH, "fetch", places.SHARE_SETTINGS, url, "/opt/program", digest)
    machine.answers[running] = "changed\n"

    assert share.fetch(machine, SHARED, "bin/x", "/opt/program", b"abc") is True
    machine.answers[running] = "same\n"
    assert share.fetch(machine, SHARED, "bin/x", "/opt/program", b"abc") is False
    assert machine.modes[places.SHARE_SETTINGS] == 0o600

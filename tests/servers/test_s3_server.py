"""The S3 server of the tests cleans up after itself: what it leaves stops the next one, of another user."""

from pathlib import Path

import pytest

from tests.servers import free_port, s3


def test_its_sockets_go_with_it(tmp_path: Path) -> None:
    before = set(s3.SOCKETS.glob("seaweedfs-*"))
    with s3.seaweed(tmp_path / "weed"):
        assert set(s3.SOCKETS.glob("seaweedfs-*")) - before
    assert not set(s3.SOCKETS.glob("seaweedfs-*")) - before


def test_a_port_with_a_socket_that_another_user_left_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    left, free = free_port(), free_port()
    offered = iter((left, free))
    monkeypatch.setattr(s3, "free_port", lambda: next(offered))
    socket = s3.SOCKETS / f"seaweedfs-filer-grpc-{left + s3.PARTNER}.sock"
    socket.touch()
    try:
        assert s3.port_with_partner() == free
    finally:
        socket.unlink()

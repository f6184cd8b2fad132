"""The S3 server of the tests cleans up after itself: what it leaves stops the next one, of another user."""

from pathlib import Path

import pytest

from tests.servers import s3


def test_its_sockets_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its own ports: other servers may run beside it."""
    ports: list[int] = []
    choose = s3.port_with_partner

    def chosen() -> int:
        ports.append(choose())
        return ports[-1]

    monkeypatch.setattr(s3, "port_with_partner", chosen)
    with s3.seaweed(tmp_path / "weed"):
        assert len(ports) == 4
        assert all(map(s3.sockets_of, ports))

    assert not any(map(s3.sockets_of, ports))


def test_a_port_with_a_socket_that_another_user_left_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    left = s3.port_with_partner()
    socket = s3.SOCKETS / f"seaweedfs-filer-grpc-{left + s3.PARTNER}.sock"
    socket.touch()
    try:
        free = s3.port_with_partner()
        offered = iter((left, free))
        monkeypatch.setattr(s3, "free_port", lambda: next(offered))

        assert s3.port_with_partner() == free
    finally:
        socket.unlink()


def test_a_port_whose_partner_is_none_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    free = s3.port_with_partner()
    offered = iter((s3.HIGHEST_PORT + 1 - s3.PARTNER, free))
    monkeypatch.setattr(s3, "free_port", lambda: next(offered))

    assert s3.port_with_partner() == free

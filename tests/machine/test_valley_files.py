"""What stands on the disk of a machine while its server writes there."""

import shutil
import threading
from pathlib import Path

from tests.flows.valleys.plots import Plot

LOOKS = 300


def test_the_files_of_a_disk_can_be_read_while_a_server_writes_and_removes_some(tmp_path: Path) -> None:
    plot, over = Plot(tmp_path, "127.0.0.1"), threading.Event()
    store = plot.on_disk("/store")
    (store / "stays").mkdir(parents=True)
    (store / "stays" / "file").write_bytes(b"here")

    def serve() -> None:
        while not over.is_set():
            for k in range(10):
                (store / f"goes{k}").mkdir()
                (store / f"goes{k}" / "file").touch()
            for k in range(10):
                shutil.rmtree(store / f"goes{k}")

    server = threading.Thread(target=serve)
    server.start()
    try:
        for _ in range(LOOKS):
            assert plot.files("/store")["/store/stays/file"] == b"here"
    finally:
        over.set()
        server.join()

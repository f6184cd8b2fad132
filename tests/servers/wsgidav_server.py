"""WsgiDAV on loopback, without users: ``python -m tests.servers.wsgidav_server PORT FOLDER``."""

import signal
import sys

from cheroot.wsgi import Server
from wsgidav.wsgidav_app import WsgiDAVApp


def main(port: int, folder: str) -> None:
    config = {
        "provider_mapping": {"/": folder},
        "simple_dc": {"user_mapping": {"*": True}},
        "lock_storage": True,
        "property_manager": True,
        "verbose": 0,
        "logging": {"enable": False},
    }
    server = Server(("127.0.0.1", port), WsgiDAVApp(config), numthreads=16)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.start()
    finally:
        server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

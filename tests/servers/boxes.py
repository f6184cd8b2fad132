"""What is in the boxes of a simulated project: their files over WebDAV, on loopback, encrypted.

The users are those of the simulated API, with the passwords, homes and access settings they have there at
that moment. All have one host, so the user name of a request says which box is meant.
"""

import base64
import binascii
import contextlib
import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from wsgidav.wsgidav_app import WsgiDAVApp

from tests.servers import free_port
from tests.simulator import Simulator

Environ = dict[str, Any]
Start = Callable[..., Any]


@dataclass
class Files:
    """The files of all boxes. ``before`` and ``after`` see each request: user, method, path."""

    simulator: Simulator
    folder: Path
    certificate: Path
    before: Callable[[str, str, str], None] = lambda *_: None
    after: Callable[[str, str, str], None] = lambda *_: None
    _apps: dict[Path, WsgiDAVApp] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def home(self, user: str) -> Path:
        """Where the files of *user* lie."""
        found = self._users()[user]
        return self.folder / found.home

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        user, password = _credentials(environ)
        account = self._users().get(user)
        if account is None or account.password != password:
            start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="box"'), ("Content-Length", "0")])
            return [b""]
        if not (account.settings["webdav_enabled"] and account.settings["reachable_externally"]):
            start("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        what = user, environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.before(*what)
        answer = list(self._app(self.folder / account.home)(environ, start))
        self.after(*what)
        return answer

    def _users(self) -> dict[str, "_User"]:
        found = {}
        for box in self.simulator.storage_boxes.values():
            if box.username is None:
                continue
            found[box.username] = _User(box.password, str(box.id), box.access_settings)
            for account in box.subaccounts.values():
                home = f"{box.id}/{account.home_directory.strip('/')}"
                name = f"{box.username}-sub{account.number}"
                found[name] = _User(account.password, home, account.access_settings)
        return found

    def _app(self, folder: Path) -> WsgiDAVApp:
        with self._lock:
            if folder not in self._apps:
                folder.mkdir(parents=True, exist_ok=True)
                self._apps[folder] = WsgiDAVApp(
                    {
                        "provider_mapping": {"/": str(folder)},
                        "simple_dc": {"user_mapping": {"*": True}},
                        "lock_storage": True,
                        "property_manager": True,
                        "verbose": 0,
                        "logging": {"enable": False},
                    }
                )
            return self._apps[folder]


@dataclass(frozen=True)
class _User:
    password: str
    home: str
    settings: dict[str, bool]


def _credentials(environ: Environ) -> tuple[str, str]:
    kind, _, coded = environ.pop("HTTP_AUTHORIZATION", "").partition(" ")
    with contextlib.suppress(binascii.Error, ValueError):
        if kind == "Basic":
            user, _, password = base64.b64decode(coded).decode().partition(":")
            return user, password
    return "", ""


def certificate(folder: Path, at: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate of an address that signs itself, and its key; clients are told of it by SSL_CERT_FILE."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "boxes of the tests")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address(at))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@contextlib.contextmanager
def with_files(folder: Path, api_port: int = 0, **more: Any) -> Iterator[Files]:
    """Run a simulated project whose boxes hold files; its API is at *api_port* of loopback."""
    port = free_port()
    simulator = Simulator(boxes_at=f"127.0.0.1:{port}", **more)
    signed, key = certificate(folder / "tls")
    files = Files(simulator, folder / "boxes", signed)
    server = Server(("127.0.0.1", port), files, numthreads=8)
    server.ssl_adapter = BuiltinSSLAdapter(str(signed), str(key))
    server.expiration_interval = 0.02  # how often it looks whether it is to end
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        with simulator.running(api_port):
            yield files
    finally:
        server.stop()
        thread.join(timeout=10)
    assert simulator.violations == []

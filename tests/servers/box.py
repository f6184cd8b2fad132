"""What is in the boxes of a simulated project, served by Apache: the users are those of its API, as they are.

Each sees the folder that is its home and nothing above it; read-only ones change nothing there.
"""

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from morpheus.files import replace_file
from morpheus.wait import wait_until
from tests.servers.boxes import certificate
from tests.simulator import Simulator

PULSE = 0.02  # seconds between two looks at the API's users
MODULES = (
    "mpm_event",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "authz_groupfile",
    "auth_basic",
    "dav",
    "dav_fs",
    "dav_lock",
    "rewrite",
    "socache_shmcb",
    "ssl",
)
CONFIG = """
ServerRoot "{folder}"
ServerName box.invalid
Listen [{address}]:{port}
PidFile "{folder}/apache.pid"
ErrorLog "{folder}/error.log"
LogFormat "%u %m %U %>s" brief
CustomLog "{folder}/access.log" brief
Mutex file:{folder} default
{modules}
User www-data
Group www-data
KeepAlive On
StartServers 1
DocumentRoot "{folder}/files"
DavLockDB "{folder}/locks"
LimitRequestBody 0
# Named by its address, which a MOVE names as well: mod_dav moves nothing to another server.
<VirtualHost [{address}]:{port}>
ServerName box.invalid
SSLEngine On
SSLCertificateFile "{certificate}"
SSLCertificateKeyFile "{key}"
RewriteEngine On
RewriteMap homes "txt:{folder}/homes"
RewriteCond "%{{HTTP:Authorization}}" "^Basic (.+)$"
RewriteCond "${{homes:%1|nowhere}}" "^(.+)$"
RewriteRule "^/(.*)$" "{folder}/files/%1/$1" [L]
</VirtualHost>
<Directory "{folder}/files">
  Dav On
  AuthType Basic
  AuthName box
  AuthUserFile "{folder}/users"
  AuthGroupFile "{folder}/groups"
  AllowOverride None
  <LimitExcept GET HEAD OPTIONS PROPFIND>
    Require group writers
  </LimitExcept>
  <Limit GET HEAD OPTIONS PROPFIND>
    Require valid-user
  </Limit>
</Directory>
"""


@dataclass
class Box:
    """Apache, as the boxes of *simulator*."""

    simulator: Simulator
    folder: Path
    address: str
    port: int
    _known: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"[{self.address}]:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "tls" / "certificate.pem"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def home(self, user: str) -> Path:
        """Where the files of *user* lie."""
        return self.folder / "files" / next(home for name, home, *_ in self._users() if name == user)

    @property
    def log(self) -> list[str]:
        """User, method, path and status of each request."""
        return (self.folder / "access.log").read_text().splitlines()

    def _users(self) -> Iterator[tuple[str, str, str, bool]]:
        for box in list(self.simulator.storage_boxes.values()):
            if box.username is None:
                continue
            yield box.username, str(box.id), box.password, True
            for account in list(box.subaccounts.values()):
                home = f"{box.id}/{account.home_directory.strip('/')}"
                writes = not account.access_settings["readonly"]
                if account.access_settings["webdav_enabled"]:
                    yield f"{box.username}-sub{account.number}", home, account.password, writes

    def carry(self) -> None:
        """Let the users of the API be those of Apache."""
        users = list(self._users())
        for _, home, *_ in users:
            path = self.folder / "files" / home
            if not path.exists():
                path.mkdir(parents=True)
                subprocess.run(["chown", "-R", "www-data:", str(self.folder / "files")], check=True)
        sums = {name: base64.b64encode(hashlib.sha1(word.encode()).digest()) for name, _, word, _ in users}
        tokens = {name: base64.b64encode(f"{name}:{word}".encode()) for name, _, word, _ in users}
        self._write("users", "".join(f"{name}:{{SHA}}{sums[name].decode()}\n" for name in sums))
        self._write("groups", f"writers: {' '.join(name for name, _, _, writes in users if writes)}\n")
        self._write("homes", "".join(f"{tokens[name].decode()} {home}\n" for name, home, *_ in users))

    def _write(self, name: str, text: str) -> None:
        if self._known.get(name) != text:
            replace_file(self.folder / name, text.encode(), mode=0o644)
            self._known[name] = text


@contextlib.contextmanager
def served(simulator: Simulator, address: str, port: int) -> Iterator[Box]:
    """Run Apache at *address*, in the network of the current thread, while the block runs; needs root."""
    assert os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="morpheus-box-") as folder:
        Path(folder).chmod(0o755)  # of pytest's own folders nothing is another user's to read
        with _served(simulator, Path(folder), address, port) as box:
            yield box


@contextlib.contextmanager
def _served(simulator: Simulator, folder: Path, address: str, port: int) -> Iterator[Box]:
    box = Box(simulator, folder, address, port)
    (folder / "files").mkdir(parents=True)
    signed, key = certificate(folder / "tls", address)
    program = shutil.which("apache2") or "/usr/sbin/apache2"
    assert Path(program).exists(), "this needs Apache 2.4: apt install apache2"
    where = "/usr/lib/apache2/modules"
    modules = "\n".join(f"LoadModule {each}_module {where}/mod_{each}.so" for each in MODULES)
    config = CONFIG.format(
        folder=folder, address=address, port=port, modules=modules, certificate=signed, key=key
    )
    (folder / "apache.conf").write_text(config)
    box.carry()
    subprocess.run(["chown", "www-data:", str(folder), str(folder / "files")], check=True)
    with _running([program, "-f", str(folder / "apache.conf"), "-DFOREGROUND"], box), _pulse(box):
        yield box


@contextlib.contextmanager
def _pulse(box: Box) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(PULSE):
            box.carry()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _running(command: list[str], box: Box) -> Iterator[None]:
    with (box.folder / "said").open("wb") as stream:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True)

    def answers() -> bool:
        assert process.poll() is None, f"Apache ended at once: {(box.folder / 'said').read_text()}"
        try:
            return httpx.get(f"https://{box.host}", verify=box.trust).status_code == 401
        except httpx.TransportError:
            return False

    try:
        wait_until("Apache", answers, bool, str, timeout=30)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)

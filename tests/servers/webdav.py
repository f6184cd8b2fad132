"""WebDAV servers on loopback: Apache's mod_dav (Debian's apache2), and WsgiDAV."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from morpheus.registry.webdav import WebDavStore, document_url
from morpheus.wait import wait_until
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
# Every kind of character that a Storage Box allows in a password.
USER, PASSWORD = "u1337-sub1", "aÄß9 ^°!§$%/()=?+#-.,;:~*@{}_&"
MODULES = (
    "mpm_event",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "dav",
    "dav_fs",
    "dav_lock",
)
CONFIG = """
ServerRoot "{folder}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{folder}/apache.pid"
ErrorLog "{folder}/error.log"
Mutex file:{folder} default
{modules}
KeepAlive On
MaxKeepAliveRequests 0
StartServers 1
DocumentRoot "{folder}/files"
DavLockDB "{folder}/locks"
LimitRequestBody 0
LimitXMLRequestBody 0
<Directory "{folder}/files">
  Dav On
  AuthType Basic
  AuthName box
  AuthUserFile "{folder}/users"
  Require valid-user
  AllowOverride None
</Directory>
{more}
"""
NO_LOCKS = """
<Directory "{folder}/files">
  <Limit LOCK UNLOCK>
    Require all denied
  </Limit>
  <LimitExcept LOCK UNLOCK>
    Require valid-user
  </LimitExcept>
</Directory>"""


@dataclass(frozen=True)
class WebDav:
    """A server that runs, and the folder of its files."""

    port: int
    files: Path
    username: str | None = USER
    password: str | None = PASSWORD
    folder: str = ""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.folder}"

    @property
    def here(self) -> Path:
        """Where its files lie on this machine."""
        return self.files / self.folder

    def url(self, path: str = "morpheus/registry.json") -> str:
        return document_url(f"{self.base}{path}")

    def store(self, path: str = "morpheus/registry.json", name: str | None = None) -> WebDavStore:
        return WebDavStore(self.url(path), self.username, self.password, name)

    def client(self) -> httpx.Client:
        auth = httpx.BasicAuth(self.username, self.password or "") if self.username else None
        return httpx.Client(base_url=self.base, auth=auth, timeout=30)


@contextlib.contextmanager
def apache(folder: Path, *, locks: bool = True) -> Iterator[WebDav]:
    """Run Apache 2.4 as an ordinary user; with *locks* off it refuses LOCK, as servers of class 1 do."""
    program = shutil.which("apache2") or "/usr/sbin/apache2"
    assert Path(program).exists(), "this needs Apache 2.4: apt install apache2"
    modules = Path("/usr/lib/apache2/modules")
    (folder / "files").mkdir(parents=True)
    server = WebDav(free_port(), folder / "files")
    command = ["htpasswd", "-nbB", "-C", "4", USER, PASSWORD]
    users = subprocess.run(command, capture_output=True, check=True).stdout
    (folder / "users").write_bytes(users)
    config = CONFIG.format(
        folder=folder,
        port=server.port,
        modules="\n".join(f"LoadModule {each}_module {modules}/mod_{each}.so" for each in MODULES),
        more="" if locks else NO_LOCKS.format(folder=folder),
    )
    if os.geteuid() == 0:
        config += "User www-data\nGroup www-data\n"
        subprocess.run(["chown", "-R", "www-data:www-data", str(folder)], check=True)
    (folder / "apache.conf").write_text(config)
    with _running([program, "-f", str(folder / "apache.conf"), "-DFOREGROUND"], server):
        yield server


@contextlib.contextmanager
def wsgidav(folder: Path) -> Iterator[WebDav]:
    """Run WsgiDAV, which has locks, and moves collections file by file."""
    (folder / "files").mkdir(parents=True)
    server = WebDav(free_port(), folder / "files", None, None)
    command = [sys.executable, "-m", "tests.servers.wsgidav_server", str(server.port), str(server.files)]
    with _running(command, server):
        yield server


@contextlib.contextmanager
def _running(command: list[str], server: WebDav) -> Iterator[None]:
    said = server.files.with_name("said")
    with said.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True
        )

    def answers() -> bool:
        assert process.poll() is None, f"the server ended at once: {said.read_text()}"
        try:
            return httpx.request("OPTIONS", server.base, timeout=2).status_code < 500
        except httpx.TransportError:
            return False

    try:
        wait_until("the WebDAV server", answers, bool, str, timeout=30)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)

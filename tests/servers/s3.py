"""S3 endpoints on loopback: SeaweedFS, a double that ignores conditions, and a proxy that does damage."""

import contextlib
import functools
import hashlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from morpheus.registry.bucket import Bucket, place
from morpheus.registry.s3 import S3Store
from morpheus.wait import wait_until
from tests.servers import free_port

KEY_ID, SECRET = "AKIDmorpheus", "aÄ+/=&?# %41'\"end"
BUCKET = "registries"
HIGHEST_PORT = 65535
PARTNER = 10000  # SeaweedFS takes the port that much above each for its own protocol
SOCKETS = Path("/tmp")  # where it makes a socket for each of its ports: what another user's run left stops it


@dataclass(frozen=True)
class S3:
    """An endpoint that runs; ``proven`` where stores shall take its promise as given."""

    endpoint: str
    proven: bool = False

    def url(self, path: str = "tests/registry.json") -> str:
        return f"{self.endpoint}/{BUCKET}/{path}"

    def store(self, path: str = "tests/registry.json", name: str | None = None) -> S3Store:
        store = S3Store(self.url(path), KEY_ID, SECRET, name)
        store._proven = self.proven
        return store

    def bucket(self) -> Bucket:
        return Bucket(place(self.url()), KEY_ID, SECRET)


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[S3]:
    """Run SeaweedFS with one bucket and one access key.

    Of writers that collide it lets all but one or two wait for a second.
    """
    credentials = [{"accessKey": KEY_ID, "secretKey": SECRET}]
    identities = [{"name": "tests", "credentials": credentials, "actions": ["Admin"]}]
    folder.mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    master, volume, filer, s3 = ports = [port_with_partner() for _ in range(4)]
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder,
        "master.port": master,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "volume.port": volume,
        "volume.max": 32,
        "filer.port": filer,
        "s3.port": s3,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": folder / "s3.json",
    }
    program = Path(sys.executable).with_name("weed")
    with (folder / "weed.err").open("wb") as errors:
        process = subprocess.Popen(
            [program, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    server = S3(f"http://127.0.0.1:{s3}", proven=True)

    def answers() -> bool:
        assert process.poll() is None, (folder / "weed.err").read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.head(server.endpoint, timeout=5).status_code < 500:
                server.bucket().put("ready", b"ready")  # an administrator's first write makes the bucket
                return True
        return False

    try:
        wait_until("SeaweedFS", answers, bool, str, timeout=60)
        yield server
    finally:
        process.kill()
        process.wait(timeout=30)
        for socket_file in (each for port in ports for each in sockets_of(port)):
            socket_file.unlink(missing_ok=True)


def port_with_partner() -> int:
    for _ in range(100):
        port = free_port()
        if port + PARTNER <= HIGHEST_PORT and _is_free(port + PARTNER) and not sockets_of(port):
            return port
    raise AssertionError(f"100 free ports, none with a free one {PARTNER} above and no socket in {SOCKETS}")


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def sockets_of(port: int) -> list[Path]:
    """The sockets that SeaweedFS makes, or has left, for a port and its partner."""
    return [each for of in (port, port + PARTNER) for each in SOCKETS.glob(f"seaweedfs-*-{of}.sock")]


@dataclass
class Fault:
    """What a :class:`Proxy` does with a request; each is asked with its method, path and number."""

    before: Callable[[str, str, int], None] = lambda *_: None
    middle: Callable[[str, str, int], None] = lambda *_: None
    cut: Callable[[str, str, int], bool] = lambda *_: False
    repeat: Callable[[str, str, int], bool] = lambda *_: False
    shift: timedelta = timedelta()


@dataclass
class Proxy:
    """Stands before an endpoint: counts requests, stalls, loses or repeats them, shifts its clock.

    It calls ``before`` before the first byte of a request is passed on, ``middle`` in the middle of its body.
    A reply that is ``cut`` is lost after the endpoint has done what was asked. What is to ``repeat`` is sent
    twice, and the second answer is handed on, as proxies do that saw the first one fail.
    """

    server: S3
    fault: Fault = field(default_factory=Fault)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def proxied(target: S3, fault: Fault | None = None) -> Iterator[Proxy]:
    behind = urlsplit(target.endpoint).netloc

    class Handler(_Quiet):
        upstream: http.client.HTTPConnection | None = None

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault, path = proxy.fault, urlsplit(self.path).path
            with proxy.lock:
                number = len(proxy.requests)
                proxy.requests.append((self.command, path))
            fault.before(self.command, path, number)
            middle = functools.partial(fault.middle, self.command, path, number)
            answer, data = self._forwarded(body, middle)
            if fault.repeat(self.command, path, number):
                answer, data = self._forwarded(body, middle)
            if fault.cut(self.command, path, number):
                self.reset()
                return
            headers = {
                name: value for name, value in answer.getheaders() if name.lower() != "transfer-encoding"
            }
            if self.command != "HEAD":
                headers["Content-Length"] = str(len(data))
            headers["Date"] = format_datetime(datetime.now(UTC) + fault.shift, usegmt=True)
            self.answer(answer.status, headers, data)

        def _forwarded(
            self, body: bytes, middle: Callable[[], None]
        ) -> tuple[http.client.HTTPResponse, bytes]:
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection(behind, timeout=30)
            self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                self.upstream.putheader(name, value)
            self.upstream.endheaders(body[: len(body) // 2])
            middle()
            self.upstream.send(body[len(body) // 2 :])
            answer = self.upstream.getresponse()
            return answer, answer.read()

        def finish(self) -> None:
            super().finish()
            if self.upstream:
                self.upstream.close()

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do  # noqa: N815  # the names http.server calls

    with _serving(Handler) as endpoint:
        proxy = Proxy(S3(endpoint, proven=True), fault or Fault())
        yield proxy


@contextlib.contextmanager
def answering(status: int, code: str = "") -> Iterator[S3]:
    """An endpoint that has one answer for everything, with S3's *code* for it."""

    class Handler(_Quiet):
        def do(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode() if code else b"")

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do  # noqa: N815  # the names http.server calls

    with _serving(Handler) as endpoint:
        yield S3(endpoint)


@contextlib.contextmanager
def careless(*, looks: bool) -> Iterator[S3]:
    """An endpoint of ours that keeps no promise: it answers 200 to every write.

    With *looks* it does look at the conditions first, and writes a moment later, whatever came meanwhile.
    """
    objects: dict[str, bytes] = {}

    class Handler(_Quiet):
        def do_HEAD(self) -> None:
            self.answer(403, {})

        def do_GET(self) -> None:
            path = urlsplit(self.path)
            if "list-type" in path.query:
                self.answer(200, {}, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")
            elif (found := objects.get(path.path)) is None:
                self.answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                changed = format_datetime(datetime.now(UTC), usegmt=True)
                self.answer(200, {"ETag": _etag(found), "Last-Modified": changed}, found)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            found = objects.get(self.path)
            wanted = self.headers.get("if-match")
            in_the_way = self.headers.get("if-none-match") == "*" and found is not None
            if looks and (in_the_way or (wanted and (found is None or _etag(found) != wanted))):
                self.answer(412, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            time.sleep(0.05 if looks else 0)
            objects[self.path] = body
            self.answer(200, {"ETag": _etag(body)})

        def do_DELETE(self) -> None:
            objects.pop(self.path, None)
            self.answer(204, {})

    with _serving(Handler) as endpoint:
        yield S3(endpoint)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer in one piece

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body)), "Server": "tests"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in http.server
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what tests are about."""


@contextlib.contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""What each answer of a WebDAV server means to a writer: try again, look who won, or stop and say why."""

import shutil
import threading

import pytest

from morpheus.errors import RegistryBrokenError, RegistryConflictError, TransientError
from morpheus.registry import Registry, Store, dav, revisions
from tests.servers.fixtures import own_folder
from tests.servers.others import first_of, published, through
from tests.servers.proxy import Cut, Fault, Point, Proxy, Request, Say
from tests.servers.webdav import WebDav
from tests.servers.writer import add, recorded

BUSY = (423, 429, 500, 502, 503)
STOP = {
    401: "password is not accepted",
    403: "no right",
    507: "the store is full",
    301: "has moved to https://box.example/new",
}
METHODS = ("PROPFIND", "GET", "MKCOL", "PUT", "MOVE")


@pytest.fixture
def server(wsgidav_server: WebDav) -> WebDav:
    return own_folder(wsgidav_server)


@pytest.fixture
def store(server: WebDav, proxy: Proxy) -> Store:
    """A store behind the proxy, that was written to before; what its server can is recorded there."""
    record = server.here / "morpheus/morpheus.store/mechanism.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"once": true, "turns": true, "proven": false}')
    store = through(proxy, server).store()
    add(Registry(store), 1)
    return store


def always(method: str, fault: Fault) -> object:
    return lambda request: fault if request.method == method else None


@pytest.mark.servers  # it takes long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", [*BUSY, 404, 409, 412])
def test_what_may_pass_is_tried_again(store: Store, proxy: Proxy, method: str, status: int) -> None:
    proxy.schedule(first_of(method, "making" if method in {"MKCOL", "PUT", "MOVE"} else "", Say(status)))

    add(Registry(store), 2)

    assert recorded(Registry(store)) == [1, 2]


@pytest.mark.servers  # it takes long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", STOP)
def test_what_a_person_must_mend_stops_with_a_sentence(
    store: Store, server: WebDav, proxy: Proxy, method: str, status: int
) -> None:
    where = {"Location": "https://user:secret@box.example/new?token=secret"}

    def plan(request: Request) -> Fault | None:
        part = "making" if method in {"MKCOL", "PUT", "MOVE"} else ""
        return Say(status, where) if request.method == method and part in request.path else None

    proxy.schedule(plan)
    with pytest.raises(RegistryBrokenError, match=STOP[status]) as stopped:
        add(Registry(store), 2)
    proxy.schedule(lambda _: None)

    assert "secret" not in str(stopped.value)
    assert recorded(Registry(store)) == [1]


@pytest.mark.servers  # it takes long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("point", Point)
def test_a_connection_that_ends_is_tried_again(store: Store, proxy: Proxy, method: str, point: Point) -> None:
    proxy.schedule(first_of(method, "", Cut(point)))

    add(Registry(store), 2)

    assert recorded(Registry(store)) == [1, 2]


def test_a_move_whose_end_is_unknown_is_not_cut_short(store: Store, proxy: Proxy) -> None:
    """A server that moves file by file could be left with an empty revision for ever."""
    proxy.schedule(first_of("MOVE", "making", Cut(Point.REPLY)))

    add(Registry(store), 2)

    asked = [str(request) for request in proxy.requests]
    moved = next(each for each in asked if each.startswith("MOVE")).removeprefix("MOVE ")
    assert f"DELETE {moved}" not in asked
    assert recorded(Registry(store)) == [1, 2]


def test_a_revision_whose_file_is_still_on_its_way_is_waited_for(store: Store, server: WebDav) -> None:
    versions = server.here / "morpheus/registry.versions"
    whole, later = versions / "1/document.json", versions / "2/document.json"
    later.parent.mkdir()
    timer = threading.Timer(0.5, lambda: shutil.copy(whole, later))
    timer.start()

    assert recorded(Registry(store)) == [1]

    timer.join()
    assert later.exists()


def test_a_revision_that_stays_empty_is_told_with_what_to_do(
    store: Store, server: WebDav, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "LONGEST_PAUSE", 0.02)
    (server.here / "morpheus/registry.versions/2").mkdir()

    with pytest.raises(
        RegistryBrokenError, match=r"versions/2/document\.json cannot be read \(there is nothing"
    ):
        store.read()


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_error_after_the_commit_is_settled_by_looking(store: Store, proxy: Proxy, status: int) -> None:
    proxy.schedule(first_of("MOVE", "making", Say(status, after=True)))
    text, version, _ = store.read()

    made = store.write(f"{text} ", version, backup=True)

    assert store.read()[:2] == (f"{text} ", made)


def test_a_publication_that_fails_is_made_up_by_the_next_reader(
    store: Store, server: WebDav, proxy: Proxy
) -> None:
    proxy.schedule(first_of("PUT", "registry.json", Say(503)))
    add(Registry(store), 2)
    assert '"used_numbers": [1, 2]' not in " ".join(published(server).split())

    assert recorded(Registry(store)) == [1, 2]
    assert published(server) == store.read().text


def test_a_server_that_keeps_no_promise_is_refused(server: WebDav, proxy: Proxy) -> None:
    def moves_over(request: Request) -> Fault | None:
        if request.method == "LOCK":
            return Say(405)
        return Say(201) if request.method == "MOVE" else None

    proxy.schedule(moves_over)
    with pytest.raises(RegistryBrokenError, match="lets both win"):
        through(proxy, server).store().write("one", None, backup=False)
    assert not (server.here / "morpheus/registry.json").exists()


def test_two_devices_use_the_recorded_mechanism(server: WebDav, proxy: Proxy) -> None:
    proxy.schedule(lambda request: Say(405) if request.method == "LOCK" else None)
    through(proxy, server).store().write("one", None, backup=False)
    proxy.schedule(lambda _: None)
    other = through(proxy, server).store()

    with other.turn():
        other.write("two", other.read().version, backup=True)

    assert not any(each.method == "LOCK" for each in proxy.requests)
    with pytest.raises((RegistryConflictError, TransientError)):
        other.write("three", None, backup=False)


@pytest.mark.parametrize("most", ["LONGEST", "LARGEST"])
def test_an_answer_that_does_not_end_is_given_up(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    monkeypatch.setattr(dav, most, 0)

    with pytest.raises((TransientError, RegistryBrokenError), match=r"longer than|larger than"):
        store.read()

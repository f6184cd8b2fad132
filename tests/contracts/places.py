"""Every kind of store that there is, each in an empty place of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import obstore
import pytest

from morpheus.registry import Store
from morpheus.registry.care import Place
from morpheus.registry.dav import Dav
from morpheus.registry.local import LocalStore
from morpheus.registry.s3 import S3Store
from morpheus.registry.webdav import WebDavStore
from tests.fakes import MemoryStore
from tests.servers.fixtures import own_folder
from tests.servers.s3 import S3
from tests.servers.webdav import WebDav

Kind = Callable[[pytest.FixtureRequest, Path], Place]


def local(_: pytest.FixtureRequest, folder: Path) -> Place:
    return lambda name: LocalStore(folder / "data" / f"{name or 'registry'}.json")


def memory(_: pytest.FixtureRequest, folder: Path) -> Place:
    return MemoryStore(folder.name).place


def s3(request: pytest.FixtureRequest, folder: Path) -> Place:
    server: S3 = request.getfixturevalue("s3")
    return lambda name: server.store(f"tests/{folder.parent.name}/{folder.name}/registry.json", name)


def webdav(fixture: str) -> Kind:
    def place(request: pytest.FixtureRequest, _: Path) -> Place:
        server: WebDav = own_folder(request.getfixturevalue(fixture))
        return lambda name: server.store(name=name)

    return place


# A new backend is one line here; what needs more than pip packages bears the mark of its part.
KINDS = {
    "local": local,
    "memory": memory,
    "s3": s3,
    "apache": webdav("apache"),
    "apache without locks": webdav("apache_without_locks"),
    "wsgidav": webdav("wsgidav_server"),
}
NEED_SERVERS = {"apache", "apache without locks"}
TAKE_LONG = {"wsgidav"}


def places(*, in_servers: set[str]) -> list[pytest.ParameterSet]:
    return [pytest.param(each, marks=[pytest.mark.servers] if each in in_servers else []) for each in KINDS]


def texts(store: Store) -> list[str]:
    """All that is stored anywhere below the folder of *store*, whatever it is."""
    if isinstance(store, MemoryStore):
        return [*filter(None, [store.read().text]), *(each.text for each in store.backups())]
    if isinstance(store, LocalStore):
        return [each.read_text() for each in store._path.parent.rglob("*") if each.is_file()]
    if isinstance(store, S3Store):
        pages = obstore.list(store._bucket._client, str(PurePath(store._key).parent))
        found = (store._bucket.get(each["path"]) for page in pages for each in page)
        return [each.body.decode() for each in found if each]
    assert isinstance(store, WebDavStore)
    return list(_below(store._dav, f"{PurePath(store._name).parent}/"))


def _below(dav: Dav, path: str) -> Iterator[str]:
    names, _ = dav.children(path)
    for name in names or ():
        if name.endswith(".json"):
            yield dav.get(f"{path}{name}").body.decode()
        else:
            yield from _below(dav, f"{path}{name}/")


PLACES = places(in_servers=NEED_SERVERS)
PLACES_FOR_MANY = places(in_servers=NEED_SERVERS | TAKE_LONG)  # many requests

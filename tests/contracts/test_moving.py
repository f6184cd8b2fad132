"""A registry moves from any kind of store to any other, with its secrets; nobody writes to what was left."""

from pathlib import Path

import pytest

from morpheus.errors import RegistryMovedError
from morpheus.forest import Forest
from morpheus.registry import Registry, care
from tests.contracts.places import KINDS, PLACES

pytestmark = pytest.mark.long


def move(request: pytest.FixtureRequest, folder: Path, old: str, new: str) -> None:
    source, target = (KINDS[each](request, folder / str(k)) for k, each in enumerate((old, new)))
    registry = Registry(source(None))
    registry.update(lambda document, _: document.with_forest(Forest("oak", "hetzner")))
    secrets = {"secrets/oak": "a seed", "secrets/elm": "ä 🌲\n"}
    for name, text in secrets.items():
        source(name).write(text, None, backup=False)

    care.migrate(source, target)

    moved = Registry(target(None))
    assert {*moved.read().forests} == {"oak"}
    assert {name: target(name).read().text for name in target(None).beside()} == secrets
    moved.update(lambda document, _: document.with_forest(Forest("elm", "hetzner")))
    with pytest.raises(RegistryMovedError, match=target(None).url):
        Registry(source(None)).update(lambda document, _: document.without_forest("oak"))


@pytest.mark.parametrize("kind", PLACES)
def test_from_a_file(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    move(request, tmp_path, "local", kind)


@pytest.mark.parametrize("kind", PLACES)
def test_into_s3(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    move(request, tmp_path, kind, "s3")

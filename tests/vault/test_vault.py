"""The vault on a store in memory and in a file: made once, never anew, gone at the end."""

import base64
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from pydantic import SecretStr

from morpheus.errors import LeaseLostError, RefusedError, StoreBusyError
from morpheus.forest import Forest, Node, Status
from morpheus.keyring import new_key
from morpheus.registry import Registry
from morpheus.registry.care import Place
from morpheus.secrets import ForestSecrets
from tests.fakes import MemoryStore
from tests.vault.sample import KEY, forest, recorded, sealed_for, told_by, vault

NAME = "secrets/oak"


def test_what_is_made_is_found_again_by_every_device(place: Place) -> None:
    oak = recorded(place, forest())

    made = vault(place).ensure(oak, newborn=True)

    assert vault(place).ensure(oak, newborn=True) == made
    assert vault(place).ensure(oak, newborn=False) == made
    assert vault(place).open(oak) == vault(place).find(oak) == made
    assert made.authority.certificate == "the certificate of oak\n"


def test_only_what_is_sealed_stands_in_the_store(place: Place) -> None:
    oak = recorded(place, forest())
    made = vault(place).ensure(oak, newborn=True)

    text = place(NAME).read().text or ""

    assert not [each for each in (*told_by(made), KEY.get_secret_value()) if each in text]
    for word in ('"oak"', "oak-node"):  # which sealed bytes, written as letters and digits, can never be
        assert word not in text


def test_nobody_finds_what_was_never_made(place: Place) -> None:
    oak = recorded(place, forest())

    assert vault(place).find(oak) is None
    with pytest.raises(RefusedError, match="are not there"):
        vault(place).open(oak)


BORN = {
    "an address": Node("oak-node-1", "2001:db8::1"),
    "a host key": Node("oak-node-1", metadata={"host_key": "ssh-ed25519 AAAA"}),
    "a node on its way out": Node("oak-node-1", status=Status.DELETING),
}


@pytest.mark.parametrize("node", BORN.values(), ids=BORN)
@pytest.mark.parametrize("left", [False, True], ids=["nothing", "another planting's"])
def test_a_forest_that_may_have_machines_gets_no_second_secrets(place: Place, node: Node, left: bool) -> None:
    if left:
        before = recorded(place, forest("run-0"))
        vault(place).ensure(before, newborn=True)
    oak = recorded(place, forest().with_nodes(node))
    there = place(NAME).read()[:2]

    with pytest.raises(RefusedError, match=r"put that document back .* morpheus teardown oak") as refused:
        vault(place).ensure(oak, newborn=False)

    assert refused.value.exit_code == 5
    assert ("are not there" in str(refused.value)) is not left
    assert place(NAME).read()[:2] == there


def test_an_active_forest_or_one_of_others_gets_none_either(place: Place) -> None:
    for oak in (replace(forest(), status=Status.ACTIVE), forest(None)):
        recorded(place, oak)

        with pytest.raises(RefusedError, match="are not there"):
            vault(place).ensure(oak, newborn=False)


def test_a_plant_that_died_before_its_secrets_is_gone_on_with(place: Place) -> None:
    oak = recorded(place, forest())

    made = vault(place).ensure(oak, newborn=False)

    assert vault(place).open(oak) == made


@pytest.mark.parametrize("left", ["another planting's", "another key's", "nonsense"])
def test_what_an_earlier_planting_left_gives_its_place(place: Place, left: str) -> None:
    before = recorded(place, forest("run-0"))
    key = new_key() if left == "another key's" else KEY
    old = vault(place, key).ensure(before, newborn=True)
    if left == "nonsense":
        place(NAME).write('{"version": 1, "planting"', place(NAME).read().version, backup=False)
    oak = recorded(place, forest())

    made = vault(place).ensure(oak, newborn=True)

    assert made.access != old.access
    assert vault(place).open(oak) == made
    assert list(place(NAME).backups()) == []
    with pytest.raises(RefusedError, match="another planting"):
        vault(place).open(before)


def test_what_a_newer_morpheus_left_stays(place: Place) -> None:
    oak = recorded(place, forest())
    place(NAME).write('{"version": 2, "planting": "?"}', None, backup=False)

    for act in (lambda: vault(place).ensure(oak, newborn=True), lambda: vault(place).delete(oak)):
        with pytest.raises(RefusedError, match="update this one"):
            act()


def test_who_slept_through_another_planting_changes_nothing(place: Place) -> None:
    early, late = forest("run-1"), recorded(place, forest("run-2"))
    made = vault(place).ensure(late, newborn=True)

    with pytest.raises(LeaseLostError):
        vault(place).ensure(early, newborn=True)
    vault(place).delete(early)  # says that it stays
    Registry(place(None)).update(lambda document, _: document.without_forest("oak"))
    with pytest.raises(LeaseLostError):
        vault(place).ensure(early, newborn=True)

    assert vault(place).open(late) == made


@pytest.mark.parametrize(
    ("key", "registry_id"),
    [(new_key(), "r1"), (KEY, "r2"), (None, "r1")],
    ids=["another key", "another registry", "no key"],
)
def test_who_has_another_key_or_registry_opens_and_replaces_nothing(
    place: Place, key: SecretStr | None, registry_id: str
) -> None:
    oak = recorded(place, forest())
    made = vault(place).ensure(oak, newborn=True)
    there = place(NAME).read()[:2]
    other = vault(place, key, registry_id)
    acts: tuple[Callable[[], object], ...] = (
        lambda: other.open(oak),
        lambda: other.find(oak),
        lambda: other.ensure(oak, newborn=True),
        lambda: other.change(oak, lambda known: replace(known, subaccount_password="x")),
    )

    for act in acts:
        with pytest.raises(
            RefusedError, match=r"^The secrets of oak \(.*\) cannot be opened: .*key.*\.$"
        ) as told:
            act()
        assert not [each for each in told_by(made) if each in f"{told.value!r}"]

    assert place(NAME).read()[:2] == there


def test_another_forests_document_opens_nothing(place: Place) -> None:
    oak, elm = recorded(place, forest()), recorded(place, forest(name="elm"))
    vault(place).ensure(oak, newborn=True)

    place("secrets/elm").write(place(NAME).read().text or "", None, backup=False)

    with pytest.raises(RefusedError, match=r"The secrets of elm .* another forest"):
        vault(place).open(elm)


def test_a_change_is_kept_and_what_was_before_is_not(place: Place) -> None:
    oak = recorded(place, forest())
    made = vault(place).ensure(oak, newborn=True)

    changed = vault(place).change(oak, lambda known: replace(known, subaccount_password="of the box"))

    assert changed == replace(made, subaccount_password="of the box") == vault(place).open(oak)
    assert list(place(NAME).backups()) == []
    there = place(NAME).read()[:2]
    vault(place).change(oak, lambda known: known)
    assert place(NAME).read()[:2] == there


def test_no_change_is_lost_when_many_make_one(place: Place) -> None:
    oak = recorded(place, forest())
    vault(place).ensure(oak, newborn=True)

    def add(letter: str) -> None:
        vault(place).change(
            oak, lambda known: replace(known, client_password=f"{known.client_password}{letter}")
        )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, "abcdef"))

    assert {*vault(place).open(oak).client_password[-6:]} == {*"abcdef"}


def test_of_devices_that_begin_at_once_all_get_the_same(place: Place) -> None:
    recorded(place, forest("run-0"))
    for k in range(1, 11):
        oak, barrier = recorded(place, forest(f"run-{k}")), Barrier(6, timeout=30)

        def ensure(_: int, oak: Forest = oak, barrier: Barrier = barrier) -> ForestSecrets:
            barrier.wait()
            return vault(place).ensure(oak, newborn=True)

        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(ensure, range(6)))

        assert all(each == vault(place).open(oak) for each in made)


# What may go wrong on the way


def test_a_program_that_drops_what_it_does_not_know_takes_no_secrets_away(place: Place) -> None:
    oak = replace(forest(), status=Status.ACTIVE).with_nodes(Node("oak-node-1", "2001:db8::1"))
    recorded(place, oak)
    recorded(place, replace(oak, location="fsn1"))  # so that there is a backup
    place(NAME).write(sealed_for(oak), None, backup=False)
    there = place(None).read()
    raw = json.loads(there.text or "")
    raw["forests"]["oak"] = {"id": "oak", "provider": "hetzner", "status": "active"}
    place(None).write(json.dumps(raw), there.version, backup=False)

    found = Registry(place(None)).find("oak")

    assert found
    assert vault(place).open(found)


class Losing(MemoryStore):
    """A store whose first answers to a write are lost, whether it happened or not."""

    def __init__(self, *, happens: bool) -> None:
        super().__init__("losing")
        self.happens, self.lost = happens, 0

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        if self.lost < 3:
            self.lost += 1
            if self.happens:
                super().write(text, expected, backup=backup, over=over)
            raise StoreBusyError("no answer")
        return super().write(text, expected, backup=backup, over=over)


@pytest.mark.parametrize("happens", [True, False])
def test_an_answer_that_is_lost_makes_no_second_secrets(happens: bool) -> None:
    home = MemoryStore()
    home.others[NAME] = losing = Losing(happens=happens)
    oak = recorded(home.place, forest())

    made = vault(home.place).ensure(oak, newborn=True)

    assert vault(home.place).open(oak) == made
    assert losing.lost == (1 if happens else 3)


def test_nothing_secret_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    oak = recorded(place, forest())
    made = vault(place).ensure(oak, newborn=True)
    vault(place).change(oak, lambda known: replace(known, subaccount_password="of the box"))
    vault(place).delete(oak)

    said = f"{caplog.text} {vault(place)!r} {vars(vault(place))!r}"
    secret = [
        *told_by(made),
        "of the box",
        KEY.get_secret_value(),
        str(base64.b64decode(KEY.get_secret_value())),
    ]
    assert not [each for each in secret if each in said]

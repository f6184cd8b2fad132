"""What morpheus init says when it is interrupted: what there may be now, what that costs, what to do."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from morpheus import founding, keyring
from morpheus.cli import asking, show, starting
from morpheus.cli.app import app
from morpheus.cli.signals import TerminatedError
from morpheus.cloud.hetzner.boxes import Boxes
from morpheus.errors import UnreachableError
from morpheus.registry.webdav import WebDavStore
from tests.hetzner import device as one
from tests.hetzner.devices import MAKE, NewDevice
from tests.servers.boxes import Files
from tests.simulator.clients import BOX_PASSWORD, client_of, ordered_box

pytestmark = pytest.mark.long

GO_ON = "run morpheus init again: it goes on with it."
ORDERED = f"The Storage Box is ordered and costs EUR 3.79 a month; {GO_ON}"
ENDINGS = {KeyboardInterrupt: (130, "Interrupted"), TerminatedError: (143, "Terminated")}


def ends(error: type[BaseException]) -> Callable[..., Any]:
    def end(*_: object, **__: object) -> Any:
        raise error

    return end


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((Boxes, "find"), "Nothing was changed."),
        ((Boxes, "_ordered"), f"A Storage Box may be ordered, which costs EUR 3.79 a month; {GO_ON}"),
        ((Boxes, "ready"), ORDERED),
        ((founding, "settle_key"), ORDERED),
        ((starting, "_written"), "the settings may not name it yet: run morpheus init again."),
    ],
)
@pytest.mark.parametrize("error", ENDINGS)
def test_it_says_what_is_there_then(
    new_device: NewDevice,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[object, str],
    said: str,
    error: type[BaseException],
) -> None:
    device = new_device()
    monkeypatch.setattr(*place, ends(error))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # later tests are to be interruptible

    code, sentence = device.refused(*MAKE)

    number, word = ENDINGS[error]
    assert (code, f"morpheus: {word}. " in sentence) == (number, True)
    assert sentence.endswith(said)


def test_a_question_is_ended_with_nothing_changed(
    new_device: NewDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "somebody_is_here", lambda: True)
    monkeypatch.setattr(asking, "answer", ends(KeyboardInterrupt))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    for words in ((), ("--storagebox",), ("--url", "")):
        assert new_device().refused(*words)[1].endswith("morpheus: Interrupted. Nothing was changed.")


def test_an_address_may_hold_a_registry_then(
    new_device: NewDevice, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ordered_box(client_of(files.simulator), name="somebodys")
    where = ("--url", f"https://{box.server}/", "--username", str(box.username))
    monkeypatch.setattr(keyring, "settle_key", ends(KeyboardInterrupt))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    sentence = new_device().refused(*where, STORAGEBOX_PASSWORD=BOX_PASSWORD)[1]

    assert sentence.endswith(f"A registry may be begun at https://{box.server}/registry.json; {GO_ON}")


def test_a_teardown_that_was_not_confirmed_changed_nothing(
    device: one.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.put(device.simulator, device.record("oak", 1), ["oak-node-1"])
    monkeypatch.setattr(show, "ask_for_name", ends(KeyboardInterrupt))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    done = CliRunner().invoke(app, ["teardown", "oak"])

    assert (done.exit_code, "morpheus: Interrupted. Nothing was changed.\n" in done.stderr) == (130, True)


# Waiting


def test_a_new_box_that_does_not_answer_is_waited_for_in_short_lines(
    new_device: NewDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(store: WebDavStore) -> None:
        logging.getLogger("morpheus.registry").warning("GET: no answer; trying again")
        raise UnreachableError(
            f"GET {store.url}: no answer (nothing there); check registry.url and the network."
        )

    monkeypatch.setattr(WebDavStore, "read", silent)
    monkeypatch.setattr(founding, "ANSWER_TIMEOUT", 1.6)
    monkeypatch.setattr(founding, "ANSWER_INTERVAL", 0.3)

    code, sentence = new_device().refused(*MAKE)

    assert code == 7
    assert sentence.count("waiting for the box to answer at https://") == 1
    assert "registry.json: not yet (1 of 2 s)" in sentence
    assert "trying again" not in sentence
    assert "registry.url" not in sentence
    assert "there was no way in: GET https://" in sentence
    assert sentence.endswith(f"(nothing there). Check this machine's network; {GO_ON}")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid"])
def test_a_wrong_address_is_told_in_seconds_and_by_the_option_that_gave_it(
    new_device: NewDevice, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = "http" if host.startswith("127") else "https"
    where = ("--url", f"{scheme}://{host}/morpheus/", "--username", "u")

    monkeypatch.setattr("morpheus.registry.UPDATE_TIMEOUT", 1e9)  # a change would be tried for ever

    code, sentence = new_device().refused(*where, STORAGEBOX_PASSWORD="p")

    assert code == 7
    assert sentence.endswith("; check --url and this machine's network.")
    assert "registry.url" not in sentence


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "ftp://u1.example/",
            "must begin with https:// (http:// only for a server on this machine)",
        ),
        ("https://u1.example/a", "--url must be a bare host, a directory"),
        ("http://u1.example/", "would send the password unencrypted: use https"),
    ],
)
def test_an_address_that_cannot_be_is_told_what_can(new_device: NewDevice, url: str, said: str) -> None:
    code, sentence = new_device().refused("--url", url)

    assert (code, said in sentence) == (2, True), sentence
    assert "registry.url" not in sentence

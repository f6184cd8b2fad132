"""Sealing: what opens again, and all that does not."""

import base64
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus import sealed
from morpheus.errors import RefusedError
from morpheus.sealed import Bond, Envelope

KEY, BOND = bytes(range(32)), Bond("registry-1", "oak", "run-1")
SECRET = "the seed of the oak"
words = st.text()


@given(st.binary(min_size=32, max_size=32), st.text(st.characters(codec="utf-8")), words, words, words)
def test_what_was_sealed_opens_again(
    key: bytes, text: str, registry_id: str, forest: str, planting: str
) -> None:
    bond = Bond(registry_id, forest, planting)

    document = sealed.seal(key, text, bond)

    assert sealed.unseal(key, document, bond) == text
    envelope = Envelope.parse(document)
    assert envelope
    assert envelope.planting == planting


def test_the_same_text_is_another_document_each_time() -> None:
    made = {sealed.seal(KEY, SECRET, BOND) for _ in range(50)}

    assert len(made) == 50
    assert not [each for each in made if SECRET in each or KEY.hex() in each]


@given(words, words, words)
def test_it_opens_for_nothing_else(registry_id: str, forest: str, planting: str) -> None:
    document = sealed.seal(KEY, SECRET, BOND)
    other = Bond(registry_id, forest, planting)
    if other == BOND:
        return
    envelope = Envelope.parse(document)
    assert envelope

    with pytest.raises(RefusedError):
        sealed.unseal(KEY, document, other)
    with pytest.raises(RefusedError):  # also when it says so
        sealed.unseal(KEY, replace(envelope, planting=planting).render(), other)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (replace(BOND, registry_id="registry-2"), "belong to another forest, registry or key"),
        (replace(BOND, forest="elm"), "belong to another forest, registry or key"),
        (replace(BOND, planting="run-2"), "another planting of that name"),
        (Bond("registry-1oak", "", "run-1"), "belong to another forest, registry or key"),
    ],
)
def test_the_error_says_what_it_may_be(other: Bond, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        sealed.unseal(KEY, sealed.seal(KEY, SECRET, BOND), other)


def test_another_key_opens_nothing_and_is_not_quoted() -> None:
    document, other = sealed.seal(KEY, SECRET, BOND), os.urandom(32)

    with pytest.raises(RefusedError, match="the key does not fit") as refused:
        sealed.unseal(other, document, BOND)

    assert str(other) not in repr(refused.value)
    assert refused.value.__cause__ is None


@given(st.data())
def test_a_document_that_differs_in_anything_is_refused(data: st.DataObject) -> None:
    document = sealed.seal(KEY, SECRET, BOND)
    at = data.draw(st.integers(0, len(document) - 1))
    other = data.draw(st.sampled_from('AQgw/+=0 {}\n\t"') | st.characters())
    damaged = data.draw(
        st.sampled_from(
            [
                document[:at] + other + document[at + 1 :],
                document[:at] + other + document[at:],
                document[:at] + document[at + 1 :],
                document[:at],
            ]
        )
    )
    if damaged == document:
        return

    with pytest.raises(RefusedError):
        sealed.unseal(KEY, damaged, BOND)


def test_no_two_documents_mean_the_same() -> None:
    """Bits that base64 leaves unused, spaces, other orders, second fields of one name."""
    raw = json.loads(sealed.seal(KEY, SECRET, BOND))
    body = raw["ciphertext"].rstrip("=")
    pad = raw["ciphertext"][len(body) :]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    unused = [raw | {"ciphertext": body[:-1] + each + pad} for each in alphabet if each != body[-1]]
    same = [each for each in unused if base64.b64decode(each["ciphertext"]) == base64.b64decode(body + pad)]
    texts = [f"{json.dumps(each)}\n" for each in (*same, dict(reversed(raw.items())), raw | {"more": 1})]
    line = json.dumps(raw)
    texts += [
        line,
        f"{line}\n\n",
        f" {line}\n",
        line.replace(": ", ":") + "\n",
        f'{{"nonce": 1, {line[1:]}\n',
    ]

    assert same  # else this test tells nothing
    for text in texts:
        with pytest.raises(RefusedError, match="not as they were written"):
            sealed.unseal(KEY, text, BOND)


def test_a_newer_format_asks_for_an_update() -> None:
    with pytest.raises(RefusedError, match="update this one"):
        sealed.unseal(KEY, json.dumps({"version": 2, "planting": "run-1"}), BOND)

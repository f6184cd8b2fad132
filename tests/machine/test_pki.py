"""Certificates: what stands in them, and which of them a node may keep."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from morpheus.errors import InvalidInputError
from morpheus.machine import pki
from morpheus.machine.pki import YEAR, Authority, fits

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
OAK, ELM = pki.found("oak", NOW), pki.found("elm", NOW)
NAMES = ("2001:db8::1", "192.0.2.1", "oak-node-1.example.com")
HELD = OAK.issue(NAMES, NOW).certificate


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def extension(pem: str, kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType]:
    return read(pem).extensions.get_extension_for_class(kind)


def test_an_authority_signs_nodes_and_no_authority_below_it() -> None:
    constraints = extension(OAK.certificate, x509.BasicConstraints)
    usage = extension(OAK.certificate, x509.KeyUsage).value

    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert isinstance(read(OAK.certificate).public_key(), ec.EllipticCurvePublicKey)


def test_a_node_is_server_and_client_under_every_name_and_on_loopback() -> None:
    names = extension(HELD, x509.SubjectAlternativeName).value
    usage = extension(HELD, x509.ExtendedKeyUsage).value

    assert isinstance(names, x509.SubjectAlternativeName)
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["2001:db8::1", "192.0.2.1", "127.0.0.1", "::1"]
    assert names.get_values_for_type(x509.DNSName) == ["oak-node-1.example.com", "localhost"]
    assert usage == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    assert extension(HELD, x509.BasicConstraints).value == x509.BasicConstraints(ca=False, path_length=None)


def test_a_machine_whose_clock_is_behind_takes_a_certificate_of_this_moment() -> None:
    for pem in (OAK.certificate, HELD):
        assert read(pem).not_valid_before_utc <= NOW - timedelta(hours=14)


def test_no_certificate_outlasts_its_authority() -> None:
    late = NOW + 25 * YEAR

    certificate = OAK.issue(NAMES, late).certificate

    assert read(certificate).not_valid_after_utc == read(OAK.certificate).not_valid_after_utc
    assert fits(certificate, OAK, NAMES, late)


@pytest.mark.parametrize("names", [NAMES, tuple(reversed(NAMES)), (*NAMES, "localhost")])
def test_what_was_issued_for_these_names_may_stay(names: tuple[str, ...]) -> None:
    assert fits(HELD, OAK, names, NOW)
    assert fits(HELD.encode(), OAK, names, NOW + 7 * YEAR)


@pytest.mark.parametrize(
    ("certificate", "names", "when"),
    [
        (HELD, NAMES[:2], NOW),
        (HELD, (*NAMES, "2001:db8::2"), NOW),
        (HELD, NAMES, NOW + 9 * YEAR),
        (HELD, NAMES, NOW - 2 * YEAR),
        (ELM.issue(NAMES, NOW).certificate, NAMES, NOW),
        (OAK.certificate, NAMES, NOW),
        ("", NAMES, NOW),
        (None, NAMES, NOW),
        (b"\xff\xfe", NAMES, NOW),
        (HELD[:200], NAMES, NOW),
    ],
    ids=["fewer", "more", "due", "early", "foreign", "authority", "empty", "none", "bytes", "half"],
)
def test_what_does_not_fit_is_issued_again(
    certificate: str | bytes | None, names: tuple[str, ...], when: datetime
) -> None:
    assert not fits(certificate, OAK, names, when)


@given(st.text(max_size=80))
def test_whatever_was_found_on_a_node_is_judged(text: str) -> None:
    assert not fits(text, OAK, NAMES, NOW)


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        (OAK.certificate, ELM.key, "is another one's"),
        ("", OAK.key, "cannot be read"),
        (OAK.certificate, "no key", "cannot be read"),
    ],
)
def test_an_authority_that_is_none_is_refused(certificate: str, key: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        Authority(certificate, key)


def test_no_key_is_shown() -> None:
    assert OAK.key not in repr(OAK)
    assert "PRIVATE" not in repr(OAK.issue(NAMES, NOW))

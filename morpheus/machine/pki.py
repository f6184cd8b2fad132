"""A certificate authority for each forest, and the certificates of its nodes.

The authority *is* the membership: nats-server lets any certificate of it join the cluster, whatever name
stands in it (shared facts on NATS 2.15, section E). So there is one per forest, and it signs nodes alone.

Nothing runs that could renew a certificate, only a person who plants or grows; a cluster whose certificates
ran out meanwhile falls apart at the next reconnection. So they last longer than machines do, and every
plant and grow renews those that :func:`fits` says are due.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from morpheus.errors import InvalidInputError

YEAR = timedelta(days=365)
AUTHORITY_LASTS, NODE_LASTS = 30 * YEAR, 10 * YEAR
DUE = 2 * YEAR  # before its end a node's certificate is renewed
EARLY = timedelta(days=1)  # a new machine's clock may be wrong by its time zone
LOOPBACK = ("localhost", "127.0.0.1", "::1")  # programs beside the server know it by these


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A node's certificate and its key, as PEM. Never shown by repr.

    Who delivers them writes the key first: then a certificate that fits has its key beside it.
    """

    certificate: str
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """The authority of one forest: its certificate and its key, as PEM. Never shown by repr."""

    certificate: str
    key: str

    def __post_init__(self) -> None:
        try:
            own = _key(self.key).public_key() == _certificate(self.certificate).public_key()
        except (ValueError, TypeError) as error:
            raise InvalidInputError("The forest's certificate authority cannot be read.") from error
        if not own:
            raise InvalidInputError("The key of the forest's certificate authority is another one's.")

    def issue(self, names: Iterable[str], now: datetime) -> Issued:
        """A certificate for a node that is reached under *names*, addresses or DNS names, and on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = _certificate(self.certificate)
        every = _names(names)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_called(next(iter(every))))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(min(now + NODE_LASTS, issuer.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(map(_general, every)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(_issuer_mark(issuer), critical=False)
            .sign(_key(self.key), hashes.SHA256())
        )
        return Issued(_pem(certificate), _key_pem(key))


def found(forest: str, now: datetime) -> Authority:
    """Make the authority of *forest*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _called(f"forest {forest}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLY)
        .not_valid_after(now + AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_pem(certificate), _key_pem(key))


def fits(certificate: str | bytes | None, authority: Authority, names: Iterable[str], now: datetime) -> bool:
    """Whether a node that is reached under *names* may keep the *certificate* that was found on it.

    It may not when it is no certificate, another authority's, for other names, or due to be renewed.
    """
    try:
        held = _certificate(certificate or "")
        held.verify_directly_issued_by(_certificate(authority.certificate))
        told = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    renewed = min(now + DUE, _certificate(authority.certificate).not_valid_after_utc)
    in_time = held.not_valid_before_utc <= now and renewed <= held.not_valid_after_utc
    return in_time and set(told) == set(map(_general, _names(names)))


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *LOOPBACK)))


def _general(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer_mark(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    mark = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mark)


def _certificate(pem: str | bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode() if isinstance(pem, str) else pem)


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("no key of an elliptic curve")
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()

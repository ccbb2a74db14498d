"""X.509 certificates of a consortium: one authority, a certificate for each node and for each gateway.

A node's certificate carries the very Ed25519 key by which the replica set knows the node, so whoever has
finished a TLS handshake with it knows which replica it is. A gateway's certificate carries an ECDSA P-256 key
of its own, and so does the authority's, because browsers refuse Ed25519 in certificates.

Every certificate has the key identifiers and key usages that strict verification asks for (RFC 5280, section
4.2.1). Nothing here decides whom to trust: see `network.tls` and the replica set.
"""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crypto.signatures import PublicKey, SigningKey

VALID_DAYS: Final = 825
"""How long a certificate is valid unless told otherwise; some clients refuse longer ones."""

CLOCK_SLACK: Final = timedelta(minutes=5)
"""A certificate is valid from this long before it is made: the clocks of a consortium differ."""

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    CryptographyDeprecationWarning,
)

_PublicKey: TypeAlias = ec.EllipticCurvePublicKey | Ed25519PublicKey


class CertificateError(Exception):
    """A certificate or its key cannot be read or made: the operator's fault, or the peer's who sent it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its private key, both as PEM; the key never shows in `repr`."""

    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return f"KeyPair(certificate of {len(self.certificate_pem)} bytes)"


def create_authority(name: str, *, valid_from: datetime | None = None, valid_days: int = 3_650) -> KeyPair:
    """A consortium's certificate authority, ECDSA P-256, which signs itself and nothing but leaves."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = _key_usage(signs_certificates=True)
    builder = (
        _start(subject, subject, key.public_key(), valid_from, valid_days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return KeyPair(_sign(builder, key, key.public_key()), _to_pem(key))


def issue_node_certificate(
    authority: KeyPair,
    key: SigningKey,
    name: str,
    *,
    hosts: Sequence[str] = LOCAL_HOSTS,
    valid_from: datetime | None = None,
    valid_days: int = VALID_DAYS,
) -> bytes:
    """The PEM certificate of a node over its own Ed25519 key; it serves for both ends of a link."""
    public_key = Ed25519PrivateKey.from_private_bytes(key.seed).public_key()
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issue_leaf(authority, public_key, name, hosts, purposes, valid_from, valid_days)


def issue_gateway_certificate(
    authority: KeyPair,
    name: str,
    *,
    hosts: Sequence[str] = LOCAL_HOSTS,
    valid_from: datetime | None = None,
    valid_days: int = VALID_DAYS,
) -> KeyPair:
    """A fresh ECDSA P-256 key and its certificate, for HTTPS only: it opens no link."""
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = _issue_leaf(authority, key.public_key(), name, hosts, purposes, valid_from, valid_days)
    return KeyPair(certificate, _to_pem(key))


def read_certificate_key(der: bytes) -> PublicKey:
    """The raw Ed25519 key, 32 bytes, that a peer's certificate (DER) is for.

    Raises CertificateError for any other kind of key.
    """
    with _refusing("the peer's certificate cannot be read: a DER X.509 certificate expected"):
        key = x509.load_der_x509_certificate(der).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateError(
            f"the peer's certificate: {type(key).__name__} found, the node's own Ed25519 key expected"
        )
    return PublicKey(key.public_bytes_raw())


def read_certificate_key_pem(pem: bytes) -> PublicKey:
    """The same of a PEM file's bytes, for checking a node's folder before it starts."""
    with _refusing("the certificate cannot be read: a PEM X.509 certificate expected"):
        der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return read_certificate_key(der)


@contextmanager
def _refusing(message: str) -> Iterator[None]:
    """Raises CertificateError for what is no certificate.

    What the library warns of, such as a serial number below 1, it will refuse one day, and nodes with
    different versions of it must refuse the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        try:
            yield
        except _UNREADABLE as error:
            raise CertificateError(message) from error


def _issue_leaf(
    authority: KeyPair,
    public_key: _PublicKey,
    name: str,
    hosts: Sequence[str],
    purposes: Sequence[x509.ObjectIdentifier],
    valid_from: datetime | None,
    valid_days: int,
) -> bytes:
    issuer, issuer_key = _load_authority(authority)
    builder = (
        _start(_name(name), issuer.subject, public_key, valid_from, valid_days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
    )
    return _sign(builder, issuer_key, issuer_key.public_key())


def _load_authority(authority: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate_pem)
        key = load_pem_private_key(authority.key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError("the authority's certificate or key cannot be read: PEM expected") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"the authority's key: {type(key).__name__} found, ECDSA P-256 expected")
    if key.public_key() != certificate.public_key():
        raise CertificateError("the authority's key is not the one of its certificate")
    return certificate, key


def _start(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: _PublicKey,
    valid_from: datetime | None,
    valid_days: int,
) -> x509.CertificateBuilder:
    start = (datetime.now(UTC) - CLOCK_SLACK) if valid_from is None else valid_from
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=valid_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _sign(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePublicKey
) -> bytes:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    builder = builder.add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "chartchain"),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
        ]
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

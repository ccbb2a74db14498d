"""Certificates: a node's carries the node's own key, and strict verification takes them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from crypto.signatures import SigningKey
from network.certificates import (
    CertificateError,
    KeyPair,
    create_authority,
    issue_gateway_certificate,
    issue_node_certificate,
    read_certificate_key,
    read_certificate_key_pem,
)
from network.tls import TlsSetupFailed, build_gateway_client_context, build_gateway_server_context

KEY = SigningKey(b"k" * 32)


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return create_authority("a consortium")


def test_a_node_certificate_carries_the_nodes_own_key(authority: KeyPair) -> None:
    pem = issue_node_certificate(authority, KEY, "a node")
    assert read_certificate_key_pem(pem) == KEY.public_key


def test_a_gateway_certificate_is_no_node_certificate(authority: KeyPair) -> None:
    pem = issue_gateway_certificate(authority, "a gateway").certificate_pem
    with pytest.raises(CertificateError, match="Ed25519"):
        read_certificate_key_pem(pem)


def test_a_gateway_certificate_serves_for_https_only(authority: KeyPair) -> None:
    pair = issue_gateway_certificate(authority, "a gateway")
    certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_garbage_is_no_certificate() -> None:
    with pytest.raises(CertificateError):
        read_certificate_key(b"\x30\x82garbage")


def test_a_certificate_for_a_key_of_an_unknown_kind_is_refused(authority: KeyPair) -> None:
    pem = issue_node_certificate(authority, KEY, "a node")
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    ed25519, unknown = bytes.fromhex("300506032b6570"), bytes.fromhex("300506032b6571")
    assert ed25519 in der
    with pytest.raises(CertificateError, match="DER"):
        read_certificate_key(der.replace(ed25519, unknown))


def test_a_certificate_that_the_library_only_warns_of_is_refused(authority: KeyPair) -> None:
    """RFC 5280 asks for a serial number above 0; this one's first bit makes it negative."""
    certificate = x509.load_pem_x509_certificate(issue_node_certificate(authority, KEY, "a node"))
    der = certificate.public_bytes(Encoding.DER)
    serial = certificate.serial_number.to_bytes(certificate.serial_number.bit_length() // 8 + 1, "big")
    assert der.count(serial) == 1
    with pytest.raises(CertificateError, match="DER"):
        read_certificate_key(der.replace(serial, bytes((serial[0] | 0x80,)) + serial[1:]))


def test_every_certificate_names_its_key_and_its_issuers(authority: KeyPair) -> None:
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    leaf = x509.load_pem_x509_certificate(issue_node_certificate(authority, KEY, "a node"))
    subject = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == subject.digest
    assert issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_an_authoritys_key_of_another_authority_signs_nothing(authority: KeyPair) -> None:
    mixed = KeyPair(authority.certificate_pem, create_authority("another").key_pem)
    with pytest.raises(CertificateError, match="not the one of its certificate"):
        issue_node_certificate(mixed, KEY, "a node")


def test_a_key_pair_does_not_show_its_key(authority: KeyPair) -> None:
    assert "PRIVATE" not in repr(authority)


def test_a_missing_certificate_file_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(TlsSetupFailed, match=r"gone\.pem"):
        build_gateway_server_context(tmp_path / "gone.pem", tmp_path / "gone-key.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_gateways_certificate_passes_strict_verification_by_name(
    authority: KeyPair, tmp_path: Path, host: str
) -> None:
    pair = issue_gateway_certificate(authority, "a gateway")
    for name, data in (
        ("ca", authority.certificate_pem),
        ("cert", pair.certificate_pem),
        ("key", pair.key_pem),
    ):
        (tmp_path / name).write_bytes(data)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(
        answer, "127.0.0.1", 0, ssl=build_gateway_server_context(tmp_path / "cert", tmp_path / "key")
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        context = build_gateway_client_context(tmp_path / "ca")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="elsewhere")

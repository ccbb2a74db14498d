"""TLS as the consortium speaks it: version 1.3 only, and between nodes with certificates on both sides.

The authority's signature alone admits nobody to a link: the certificate's key must be the one that the ledger
has for the id that the peer claims. So a certificate that leaks from one institution cannot
speak for another, and host names, which say less than the key, are not compared.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from consensus.replica_set import ReplicaId
from crypto.signatures import PublicKey
from network.certificates import CertificateError, read_certificate_key


class TlsSetupFailed(Exception):
    """The certificate files cannot be used: the operator's fault; the node does not start."""


class PeerRefused(Exception):
    """The peer's certificate is not the one of the replica that it claims to be: the peer's fault."""


@dataclass(frozen=True, slots=True)
class LinkTls:
    """Both ends of a node's links."""

    server_context: ssl.SSLContext
    client_context: ssl.SSLContext

    @classmethod
    def load(cls, *, ca_file: Path, certificate_file: Path, key_file: Path) -> LinkTls:
        """Raises TlsSetupFailed."""
        files = (ca_file, certificate_file, key_file)
        return cls(build_link_server_context(*files), build_link_client_context(*files))


def build_link_server_context(ca_file: Path, certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """For accepting links: only a certificate of the consortium's authority gets through the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificate_file, key_file)
    _require_authority(context, ca_file)
    return context


def build_link_client_context(ca_file: Path, certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """For dialling links; the caller compares the peer's key with the replica set (`verify_peer`)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # The key is compared with the replica set's, which says more than a name.
    _load(context, certificate_file, key_file)
    _require_authority(context, ca_file)
    return context


def build_gateway_server_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """For a gateway's HTTPS: no certificate is asked of the client, who logs in by a signature."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificate_file, key_file)
    return context


def build_gateway_client_context(ca_file: Path) -> ssl.SSLContext:
    """For asking another institution's gateway: its certificate and its host name are both checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _require_authority(context, ca_file)
    return context


def verify_peer(der: bytes | None, claimed: int, keys: Mapping[ReplicaId, bytes]) -> PublicKey:
    """The peer's key when its certificate (DER) is the claimed replica's. Raises PeerRefused otherwise.

    `keys` are those of the nodes that may have a link.
    """
    if der is None:
        raise PeerRefused("no certificate found: a node shows its own")
    try:
        key = read_certificate_key(der)
    except CertificateError as error:
        raise PeerRefused(str(error)) from error
    expected = keys.get(ReplicaId(claimed))
    if expected is None:
        raise PeerRefused(f"replica {claimed} is neither a member nor a registered node")
    if key != expected:
        raise PeerRefused(
            f"replica {claimed} is claimed with key {key.hex()[:16]}…, {expected.hex()[:16]}… expected"
        )
    return key


def get_peer_certificate(ssl_object: object) -> bytes | None:
    """The DER certificate that the peer showed in the handshake, None when it showed none."""
    if not isinstance(ssl_object, ssl.SSLObject | ssl.SSLSocket):
        return None
    return ssl_object.getpeercert(binary_form=True)


def _load(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsSetupFailed(
            f"{certificate_file}, {key_file}: {error.strerror or error}; "
            "a PEM certificate and the key that it is for expected"
        ) from error


def _require_authority(context: ssl.SSLContext, ca_file: Path) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsSetupFailed(
            f"{ca_file}: {error.strerror or error}; the consortium's CA certificate expected"
        ) from error

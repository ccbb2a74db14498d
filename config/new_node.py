"""A new node's folder, with all in it but settings and ledger: what is made once and never copied."""

from __future__ import annotations

from collections.abc import Sequence

from config.genesis_file import write_genesis_file
from config.node_folder import NodeFolder
from consensus.journal import Journal
from crypto.key_files import write_key_file, write_secret_file
from crypto.signatures import SigningKey
from ledger.genesis import Genesis
from network.certificates import LOCAL_HOSTS, KeyPair, issue_gateway_certificate, issue_node_certificate
from vault.key_ring import KeyRing


def make_node_folder(
    folder: NodeFolder,
    name: str,
    *,
    node_key: SigningKey,
    institution_key: SigningKey,
    authority: KeyPair,
    genesis: Genesis,
    hosts: Sequence[str] = LOCAL_HOSTS,
) -> None:
    """Keys and data are open to their owner only. `hosts` are those of the gateway's certificate.

    Vault keys and the gateway's key are made anew. Raises OSError; FileExistsError when the folder is there.
    """
    folder.directory.mkdir(parents=True)
    for part, mode in (("keys", 0o700), ("tls", 0o755), ("data", 0o700), ("log", 0o755)):
        (folder.directory / part).mkdir(mode=mode)
    # Empty, as of a node that has never voted; without one it would have to keep silent.
    Journal.create(folder.journal_directory)
    write_key_file(folder.node_key_file, node_key)
    write_key_file(folder.institution_key_file, institution_key)
    KeyRing.create(folder.key_ring_file)
    _write_certificates(folder, name, node_key, authority, hosts)
    write_genesis_file(folder.genesis_file, genesis)


def _write_certificates(
    folder: NodeFolder, name: str, node_key: SigningKey, authority: KeyPair, hosts: Sequence[str]
) -> None:
    gateway = issue_gateway_certificate(authority, name, hosts=hosts)
    folder.ca_file.write_bytes(authority.certificate_pem)
    folder.node_certificate_file.write_bytes(issue_node_certificate(authority, node_key, name))
    folder.gateway_certificate_file.write_bytes(gateway.certificate_pem)
    write_secret_file(folder.gateway_key_file, gateway.key_pem)

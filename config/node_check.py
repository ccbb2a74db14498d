"""Checks a node's folder before anything is started: do settings, keys, certificates and genesis agree?"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from config.errors import ConfigError, Fault
from config.genesis_file import read_genesis_file
from config.node_folder import NodeFolder
from config.node_identity import holds_key, list_identities
from config.settings import NodeSettings
from crypto.key_files import KeyFileError, read_key_file
from crypto.signatures import SigningKey
from ledger.genesis import Genesis
from network.certificates import CertificateError, read_certificate_key_pem
from network.tls import LinkTls, TlsSetupFailed, build_gateway_server_context
from vault.errors import KeyRingError
from vault.key_ring import KeyRing

ADVICE: Final = "use the files that were made together for this node"


def check_node(settings: NodeSettings) -> Genesis:
    """The genesis of a folder in which everything agrees. Raises ConfigError, GenesisFileError."""
    folder = settings.folder
    genesis = read_genesis_file(folder.genesis_file)
    _check_identity(settings, genesis)
    node_key = _read_key(folder.node_key_file)
    _read_key(folder.institution_key_file)
    expected = genesis.replica_set.get_public_key(settings.node.replica)
    if expected is not None and not holds_key(folder, expected):
        raise _refuse(
            folder.node_key_file,
            "public key",
            node_key.public_key.hex(),
            f"replica {settings.node.replica}'s key in the genesis, {expected.hex()}",
        )
    for identity in list_identities(folder):
        _check_certificate(identity.certificate_file, identity.key)
    _check_files_open(folder)
    return genesis


def _check_files_open(folder: NodeFolder) -> None:
    """The vault's key ring, and every certificate with its key, are there and of the right form."""
    try:
        KeyRing.open(folder.key_ring_file)
        LinkTls.load(
            ca_file=folder.ca_file,
            certificate_file=folder.node_certificate_file,
            key_file=folder.node_key_file,
        )
        build_gateway_server_context(folder.gateway_certificate_file, folder.gateway_key_file)
    except (KeyRingError, TlsSetupFailed) as error:
        path, _, what = str(error).partition(": ")
        raise ConfigError(path, (Fault(key="-", found=what, expected=""),), ADVICE) from error


def _check_identity(settings: NodeSettings, genesis: Genesis) -> None:
    path, replica = settings.folder.settings_file, settings.node.replica
    members = {member.replica: member for member in genesis.replica_set.members}
    member = members.get(replica)
    if member is None and replica < max(members):
        # Ids of later nodes go on where those of the founders end; the ledger says whose they are.
        expected = f"one of {sorted(members)} (genesis), or above {max(members)} (registered later)"
        raise _refuse(path, "node.replica", str(replica), expected)
    if member is not None and member.institution != settings.node.institution:
        found, expected = settings.node.institution.hex(), member.institution.hex()
        raise _refuse(path, "node.institution", found, f"{expected}, which runs replica {replica} (genesis)")
    missing = sorted(members.keys() - {replica} - {peer.replica for peer in settings.peers})
    if missing:
        raise _refuse(path, "peers", f"no address of replicas {missing}", "one for each replica (genesis)")


def _check_certificate(path: Path, node_key: SigningKey) -> None:
    try:
        key = read_certificate_key_pem(path.read_bytes())
    except OSError as error:
        raise _refuse(path, "-", str(error.strerror), "the node's certificate") from error
    except CertificateError as error:
        raise _refuse(path, "-", str(error), "the node's certificate") from error
    if key != node_key.public_key:
        raise _refuse(path, "public key", key.hex(), f"the node's own key, {node_key.public_key.hex()}")


def _read_key(path: Path) -> SigningKey:
    try:
        return read_key_file(path)
    except KeyFileError as error:
        raise _refuse(path, "-", str(error).removeprefix(f"{path}: "), "") from error


def _refuse(path: Path, key: str, found: str, expected: str) -> ConfigError:
    return ConfigError(path, (Fault(key=key, found=found, expected=expected),), ADVICE)

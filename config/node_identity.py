"""Which key a node votes and speaks with: of those in its folder the one that the ledger has for its replica.

keys/node.pem           in use, with its certificate tls/node.pem
keys/node-next.pem      takes over when a new epoch names it, with tls/node-next.pem
keys/node-former….pem   no longer used; shows that this folder is the replica's, should its ledger be lost
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.errors import ConfigError, Fault
from config.node_folder import NodeFolder
from crypto.key_files import read_key_file
from crypto.signatures import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """A key and the link certificate that shows it."""

    key: SigningKey
    key_file: Path
    certificate_file: Path


def list_identities(folder: NodeFolder) -> tuple[NodeIdentity, ...]:
    """The present one, and the next one if it is prepared. Raises KeyFileError."""
    pairs = [(folder.node_key_file, folder.node_certificate_file)]
    if folder.next_node_key_file.exists():
        pairs.append((folder.next_node_key_file, folder.next_node_certificate_file))
    return tuple(
        NodeIdentity(key=read_key_file(key_file), key_file=key_file, certificate_file=certificate_file)
        for key_file, certificate_file in pairs
    )


def holds_key(folder: NodeFolder, public_key: bytes) -> bool:
    """Whether it is, was or is to be this node's key. Raises KeyFileError."""
    files = sorted(folder.node_key_file.parent.glob("node*.pem"))
    return any(read_key_file(path).public_key == public_key for path in files)


def choose_identity(folder: NodeFolder, known_key: bytes | None) -> NodeIdentity:
    """The identity for `known_key`, what the ledger here has for this replica; None when it has none yet.

    A ledger that begins anew knows a former key: the present one then waits until it is named. Raises
    ConfigError when the ledger has a key that is not this node's.
    """
    identities = list_identities(folder)
    for identity in identities:
        if identity.key.public_key == known_key:
            return identity
    if known_key is not None and not holds_key(folder, known_key):
        fault = Fault(
            key="public key",
            found=identities[0].key.public_key.hex(),
            expected=f"this replica's key on the ledger, {known_key.hex()}",
        )
        raise ConfigError(folder.node_key_file, (fault,), "put the key that was registered there")
    return identities[0]

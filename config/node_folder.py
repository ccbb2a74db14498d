"""A node's folder: where everything of one node lies.

node.toml          settings
genesis.json       what all nodes agree on
keys/              mode 0700; node.pem signs votes, institution.pem transactions, vault.json opens the vault;
                   node-next.pem is the next key of the node while one is prepared (`config.node_identity`)
tls/               ca.pem, node.pem (certificate of keys/node.pem), gateway.pem and gateway-key.pem
data/              ledger, journal, vault and snapshots: what the node writes
log/               when not under a service manager
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consensus.journal import Journal
from crypto.key_files import write_key_file, write_secret_file
from crypto.signatures import SigningKey
from network.certificates import KeyPair
from vault.key_ring import KeyRing


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """The paths of one node's files."""

    directory: Path

    @property
    def settings_file(self) -> Path:
        return self.directory / "node.toml"

    @property
    def genesis_file(self) -> Path:
        return self.directory / "genesis.json"

    @property
    def node_key_file(self) -> Path:
        return self.directory / "keys" / "node.pem"

    @property
    def next_node_key_file(self) -> Path:
        """Takes over when an epoch names it (`config.node_identity`); absent unless it is prepared."""
        return self.directory / "keys" / "node-next.pem"

    @property
    def institution_key_file(self) -> Path:
        return self.directory / "keys" / "institution.pem"

    @property
    def key_ring_file(self) -> Path:
        return self.directory / "keys" / "vault.json"

    @property
    def ca_file(self) -> Path:
        return self.directory / "tls" / "ca.pem"

    @property
    def node_certificate_file(self) -> Path:
        return self.directory / "tls" / "node.pem"

    @property
    def next_node_certificate_file(self) -> Path:
        return self.directory / "tls" / "node-next.pem"

    @property
    def gateway_certificate_file(self) -> Path:
        return self.directory / "tls" / "gateway.pem"

    @property
    def gateway_key_file(self) -> Path:
        return self.directory / "tls" / "gateway-key.pem"

    @property
    def ledger_directory(self) -> Path:
        return self.directory / "data" / "ledger"

    @property
    def snapshots_directory(self) -> Path:
        return self.directory / "data" / "snapshots"

    @property
    def joining_directory(self) -> Path:
        """Parts of a snapshot that this node is fetching."""
        return self.directory / "data" / "joining"

    @property
    def journal_directory(self) -> Path:
        return self.directory / "data" / "journal"

    @property
    def vault_directory(self) -> Path:
        return self.directory / "data" / "vault"

    def create(self) -> None:
        """Make the empty folders, `keys` and `data` for their owner only."""
        self.directory.mkdir(parents=True)
        for name, mode in (("keys", 0o700), ("tls", 0o755), ("data", 0o700), ("log", 0o755)):
            (self.directory / name).mkdir(mode=mode)

    def write_keys(self, *, node: SigningKey, institution: SigningKey) -> None:
        """Write both signing keys and a new vault key ring, each readable by its owner only."""
        write_key_file(self.node_key_file, node)
        write_key_file(self.institution_key_file, institution)
        KeyRing.create(self.key_ring_file)

    def create_journal(self) -> None:
        """The empty journal of a node that has never voted; without one a node would have to keep silent."""
        Journal.create(self.journal_directory)

    def write_certificates(self, *, ca_pem: bytes, node_pem: bytes, gateway: KeyPair) -> None:
        """Write the certificates, and the gateway's key with mode 0600."""
        self.ca_file.write_bytes(ca_pem)
        self.node_certificate_file.write_bytes(node_pem)
        self.gateway_certificate_file.write_bytes(gateway.certificate_pem)
        write_secret_file(self.gateway_key_file, gateway.key_pem)

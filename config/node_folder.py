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

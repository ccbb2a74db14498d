"""What a node keeps on its disks, opened and checked before anything runs."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from config.node_check import check_node
from config.node_identity import NodeIdentity, choose_identity
from config.settings import NodeSettings
from consensus.journal import Journal
from consensus.journal_entries import JournalContent, decode_entries
from consensus.replica_set import ReplicaId
from contracts.nodes import get_node
from crypto.key_files import read_key_file
from crypto.signatures import SigningKey
from ledger.chain import Chain
from vault.key_ring import KeyRing
from vault.vault import Vault


@dataclass(slots=True, kw_only=True)
class Disks:
    """Keys, ledger, journal and vault of one node; nothing runs yet."""

    settings: NodeSettings
    identity: NodeIdentity
    institution_key: SigningKey
    chain: Chain
    journal: Journal
    vault: Vault
    writer: ThreadPoolExecutor
    """The one thread that writes journal and ledger, so that their order holds."""
    _journal_content: JournalContent

    @classmethod
    def open(cls, settings: NodeSettings) -> Disks:
        """Raises one of `daemon.faults.CANNOT_START`, and leaves nothing open then."""
        folder = settings.folder
        genesis = check_node(settings)
        with contextlib.ExitStack() as stack:
            chain = Chain.open(folder.ledger_directory, genesis, settings.ledger)
            stack.callback(chain.close)
            journal = Journal.open(folder.journal_directory, settings.journal)
            stack.callback(journal.close)
            vault = Vault.open(
                folder.vault_directory,
                holder=settings.node.institution,
                key_ring=KeyRing.open(folder.key_ring_file),
                settings=settings.vault,
            )
            stack.callback(vault.close)
            content = decode_entries(journal.entries)
            journal.entries = ()  # Decoded once; they may be as long as the journal.
            own = get_node(chain.state, settings.node.replica)
            identity = choose_identity(folder, None if own is None else own.public_key)
            institution_key = read_key_file(folder.institution_key_file)
            stack.pop_all()
        return cls(
            settings=settings,
            identity=identity,
            institution_key=institution_key,
            chain=chain,
            journal=journal,
            vault=vault,
            writer=ThreadPoolExecutor(1, thread_name_prefix="writer"),
            _journal_content=content,
        )

    @property
    def replica(self) -> ReplicaId:
        """The node's id in the replica set."""
        return ReplicaId(self.settings.node.replica)

    def take_journal_content(self) -> JournalContent:
        """What the journal held when it was opened, bodies of transactions included; it is let go of here."""
        content, self._journal_content = self._journal_content, JournalContent(records=(), proposals=())
        return content

    def close(self) -> None:
        """Only once no other thread uses a disk any more: a database closed under a reader crashes."""
        self.writer.shutdown()
        self.vault.close()
        self.journal.close()
        self.chain.close()

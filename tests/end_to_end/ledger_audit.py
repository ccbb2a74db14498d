"""Reads the ledgers of stopped nodes with the product's own code and compares all that they hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.processes import LocalProcesses
from config.genesis_file import read_genesis_file
from config.local_network import LocalNetwork, LocalNode
from ledger.archive import Archive
from ledger.block import decode_header
from ledger.chain import Chain
from ledger.epochs import verify_certified_header
from tests.end_to_end.clients import open_clients
from tests.end_to_end.journal_audit import JournalAudit
from tests.end_to_end.traffic import Traffic


@dataclass(frozen=True, slots=True)
class BlockContent:
    """One block, certified: its header's digest, by which its state root is known, and its transactions."""

    digest: bytes
    parent: bytes
    transaction_ids: tuple[bytes, ...]


class NetworkAudit:
    """What the nodes of one network have written: nothing lost, nothing doubled, one chain, no contradiction.

    `gather` may be called again and again: before a folder is wiped or rolled back, too.
    """

    def __init__(self, network: LocalNetwork) -> None:
        self._genesis = read_genesis_file(network.genesis_file)
        self.journals = JournalAudit(self._genesis)
        self._blocks: dict[int, BlockContent] = {}
        """By height, whoever holds them."""
        self._heights: dict[str, int] = {}
        """Of each node's head, by name."""
        self._bases: dict[str, int] = {}
        """Of the first block that each node held when it was gathered last."""

    @property
    def height(self) -> int:
        """Of the longest chain."""
        return max(self._heights.values())

    def gather(self, node: LocalNode) -> None:
        """Read a stopped node's ledger and its journal.

        Opening the ledger computes the state root from the rows on disk, and refuses another than the head's.
        A node that has pruned, or joined by a snapshot, holds the later blocks only.
        """
        chain = Chain.open(node.folder.ledger_directory, self._genesis)
        try:
            self.journals.follow(chain.archive.list_epoch_changes(chain.replica_set.epoch))
            for height in range(chain.archive.get_base(), chain.head.height + 1):
                self._add_block(chain.archive, height)
            self._heights[node.name] = chain.head.height
            self._bases[node.name] = chain.archive.get_base()
        finally:
            chain.close()
        self.journals.gather(node.folder.journal_directory)

    def check(self, acknowledged: Collection[bytes]) -> None:
        """Raises AssertionError unless each node gathered has every transaction that was acknowledged.

        What stands in blocks that all have pruned cannot be found again.
        """
        self.journals.check()
        # Between what was gathered before and what is there now, blocks may have been pruned by all.
        first = min(self._bases.values())
        missing = set(range(first, self.height + 1)) - self._blocks.keys()
        assert not missing, f"no node holds the blocks {sorted(missing)}"
        for height, block in self._blocks.items():
            parent = self._blocks.get(height - 1)
            assert parent is None or block.parent == parent.digest
        found = Counter(itertools.chain.from_iterable(b.transaction_ids for b in self._blocks.values()))
        assert set(found.values()) <= {1}, "a transaction stands in two blocks"
        for name, head in self._heights.items():
            blocks = (block for height, block in self._blocks.items() if height <= head)
            held = set(itertools.chain.from_iterable(block.transaction_ids for block in blocks))
            lost = set(acknowledged) - held
            assert not lost, f"{name} at height {head} lacks {sorted(item.hex() for item in lost)}"

    def _add_block(self, archive: Archive, height: int) -> None:
        header_bytes, certificate = archive.get_header_bytes(height), archive.get_certificate(height)
        block = archive.get_block(height)
        assert header_bytes is not None
        assert certificate is not None
        assert block is not None
        header = verify_certified_header(
            header_bytes,
            certificate,
            self.journals.get_replica_set(decode_header(header_bytes).epoch),
            self._genesis.compute_chain_id(),
            where=f"height {height}",
        )
        self.journals.add_certificate(certificate)
        ids = tuple(item.transaction_id for item in block.transactions)
        content = BlockContent(certificate.digest, header.parent_hash, ids)
        assert self._blocks.setdefault(height, content) == content, f"two blocks at height {height}"


def audit_network(
    network: LocalNetwork,
    acknowledged: Collection[bytes],
    *,
    nodes: Sequence[LocalNode] | None = None,
    audit: NetworkAudit | None = None,
) -> NetworkAudit:
    """Check stopped nodes, all unless told; `audit` has what was gathered of them before."""
    audit = audit or NetworkAudit(network)
    for node in nodes or network.nodes:
        audit.gather(node)
    audit.check(acknowledged)
    return audit


async def stop_and_audit(
    network: LocalNetwork,
    processes: LocalProcesses,
    traffic: Traffic,
    *,
    audit: NetworkAudit | None = None,
) -> NetworkAudit:
    """Wait until all nodes agree upon what the traffic sent, stop them, and audit what they have written.

    All are honest: none has seen two votes of one signer that contradict each other.
    """
    async with open_clients(network) as clients:
        statuses = await clients.wait_agreement(clients.urls, len(traffic.acknowledged))
        seen = [await clients.read_metrics(url) for url in clients.urls]
    assert {status["history_size"] for status in statuses} == {len(traffic.acknowledged)}
    assert [metrics["chartchain_consensus_equivocations_total"] for metrics in seen] == [0] * len(seen)
    processes.stop()
    return audit_network(network, [item.transaction_id for item in traffic.acknowledged], audit=audit)

"""Reads the ledgers of stopped nodes with the product's own code and compares all that they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.processes import LocalProcesses
from config.genesis_file import read_genesis_file
from config.local_network import LocalNetwork, LocalNode
from ledger.chain import Chain
from ledger.genesis import Genesis
from tests.end_to_end.clients import open_clients
from tests.end_to_end.journal_audit import JournalAudit
from tests.end_to_end.traffic import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerContent:
    """One node's chain: digest and roots at every height, and how often each transaction stands in it."""

    digests: tuple[bytes, ...]
    """Of the blocks from height 1 on."""
    state_roots: tuple[bytes, ...]
    occurrences: Counter[bytes]


def audit_network(
    network: LocalNetwork,
    acknowledged: Collection[bytes],
    *,
    nodes: Sequence[int] | None = None,
    journals: JournalAudit | None = None,
) -> LedgerContent:
    """Check stopped nodes; the content of the longest chain.

    Nothing acknowledged is lost, nothing is doubled, equal heights have equal blocks and states, and no
    replica signed two things for one slot. Every node must have everything that was acknowledged.
    """
    genesis = read_genesis_file(network.genesis_file)
    audit = journals or JournalAudit(network.chain_id, genesis.replica_set)
    contents = []
    for node in [network.nodes[number] for number in (nodes or range(len(network.nodes)))]:
        audit.gather(node.folder.journal_directory)
        contents.append(read_ledger(node, genesis, audit))
    audit.check()
    longest = max(contents, key=lambda content: len(content.digests))
    for content in contents:
        height = len(content.digests)
        assert content.digests == longest.digests[:height]
        assert content.state_roots == longest.state_roots[:height]
        assert set(content.occurrences.values()) <= {1}
        assert not set(acknowledged) - content.occurrences.keys()
    return longest


async def stop_and_audit(network: LocalNetwork, processes: LocalProcesses, traffic: Traffic) -> LedgerContent:
    """Wait until all nodes agree upon what the traffic sent, stop them, and audit what they have written."""
    async with open_clients(network) as clients:
        statuses = await clients.wait_agreement(clients.urls, len(traffic.acknowledged))
    assert {status["history_size"] for status in statuses} == {len(traffic.acknowledged)}
    processes.stop()
    return audit_network(network, [item.transaction_id for item in traffic.acknowledged])


def read_ledger(node: LocalNode, genesis: Genesis, audit: JournalAudit) -> LedgerContent:
    """A stopped node's chain; its certificates go to the audit."""
    chain = Chain.open(node.folder.ledger_directory, genesis)
    try:
        occurrences: Counter[bytes] = Counter()
        digests, state_roots = [], []
        for height in range(1, chain.head.height + 1):
            block, header = chain.get_block(height), chain.get_header(height)
            certificate = chain.get_certificate(height)
            assert block is not None
            assert header is not None
            assert certificate is not None
            audit.add_certificate(certificate)
            digests.append(certificate.digest)
            state_roots.append(header.state_root)
            occurrences.update(item.transaction_id for item in block.transactions)
    finally:
        chain.close()
    return LedgerContent(digests=tuple(digests), state_roots=tuple(state_roots), occurrences=occurrences)

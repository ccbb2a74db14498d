"""A block that was executed but is not committed: its header, and everything its commit will apply.

Invariant: a speculation changes nothing. It holds deltas on the head it was computed on, and can be thrown
away at any time, as a view change does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.certificates import Certificate
from consensus.replica_set import ReplicaSet
from contracts.context import Event
from crypto.encoding import encode
from crypto.hashing import Digest
from ledger import layout
from ledger.block import FORMAT_VERSION, Header, compute_header_digest, compute_transactions_digest
from ledger.block_rules import BlockHead
from ledger.epochs import EpochChange
from ledger.executor import Execution
from ledger.history_tree import Frontier, HistoryDelta
from ledger.receipt import Receipt
from ledger.state_tree import StateDelta
from ledger.store import Store
from ledger.transaction import SignedTransaction, encode_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """The outcome of executing one block on the head."""

    header: Header
    header_bytes: bytes
    digest: Digest
    execution: Execution
    state_delta: StateDelta
    history_delta: HistoryDelta
    next_replica_set: ReplicaSet
    """Orders and certifies the height after this block."""

    @property
    def transactions(self) -> tuple[SignedTransaction, ...]:
        return self.execution.transactions

    @property
    def closes_epoch(self) -> bool:
        """Whether another replica set takes over above this block."""
        return self.next_replica_set.epoch != self.header.epoch

    @property
    def transaction_hashes(self) -> tuple[bytes, ...]:
        """Signed hashes in block order, as a proposal names them."""
        return tuple(transaction.signed_hash for transaction in self.execution.transactions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedBlock:
    """What subscribers are told once a block is durable."""

    header: Header
    digest: Digest
    certificate: Certificate
    transactions: tuple[SignedTransaction, ...]
    receipts: tuple[Receipt, ...]

    @property
    def events(self) -> tuple[tuple[Receipt, Event], ...]:
        """Every event in ledger order with the receipt that carries it."""
        return tuple((receipt, event) for receipt in self.receipts for event in receipt.events)


@dataclass(slots=True)
class PendingCommit:
    """A block on its way to disk: `write` in the writer thread, then `Chain.finish_commit`."""

    speculation: Speculation
    certificate: Certificate
    store: Store
    is_written: bool = field(default=False, init=False)

    def write(self) -> None:
        """One synced batch: block, certificate, receipts, indexes, state and head together (rule P4).

        Raises StoreFailed; the node must then stop.
        """
        puts, deletes = compute_block_rows(self.speculation, self.certificate)
        self.store.write(puts, deletes)
        self.is_written = True


def compute_block_rows(
    block: Speculation, certificate: Certificate | None
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Rows to put and keys to delete so that the block is committed, in layout.py's tables."""
    height, execution, history = block.header.height, block.execution, block.history_delta
    signed = [encode_transaction(transaction) for transaction in execution.transactions]
    puts = [
        (layout.HEAD, encode_head(height, history.frontier)),
        (layout.compute_header_key(height), block.header_bytes),
        (layout.compute_transactions_key(height), layout.encode_items(signed)),
        (layout.compute_receipts_key(height), layout.encode_items(execution.receipt_rows)),
        *history.rows,
    ]
    if certificate is not None:
        puts.append((layout.compute_certificate_key(height), encode(certificate)))
        if block.closes_epoch:
            change = EpochChange(block.header_bytes, certificate, block.next_replica_set)
            puts.append((layout.compute_epoch_key(block.header.epoch), encode(change)))
    puts += [
        (layout.compute_position_key(transaction.transaction_id), layout.encode_position(height, index))
        for index, transaction in enumerate(execution.transactions)
    ]
    deletes = []
    for key, row in execution.writes.items():
        if row is None:
            deletes.append(layout.STATE + key)
        else:
            puts.append((layout.STATE + key, row))
    for bucket, entries in block.state_delta.buckets.items():
        if entries:
            puts.append((layout.compute_bucket_key(bucket), entries))
        else:
            deletes.append(layout.compute_bucket_key(bucket))
    return puts, deletes


def encode_head(height: int, frontier: Frontier) -> bytes:
    return layout.encode_items((height.to_bytes(8, "big"), *frontier))


def decode_head(row: bytes) -> tuple[int, Frontier]:
    """Height of the head and the frontier of the history tree."""
    height, *frontier = layout.decode_items(row)
    return int.from_bytes(height, "big"), tuple(frontier)


def build_speculation(
    parent: BlockHead,
    replica_set: ReplicaSet,
    next_replica_set: ReplicaSet,
    execution: Execution,
    state_delta: StateDelta,
    history_delta: HistoryDelta,
    *,
    proposer: int,
    time_ms: int,
) -> Speculation:
    """The block after `parent` that an execution and its two deltas make."""
    header = Header(
        format_version=FORMAT_VERSION,
        chain_id=parent.header.chain_id,
        epoch=replica_set.epoch,
        height=parent.height + 1,
        parent_hash=parent.digest,
        time_ms=time_ms,
        proposer=proposer,
        transaction_count=len(execution.transactions),
        transactions_digest=compute_transactions_digest(
            [transaction.signed_hash for transaction in execution.transactions]
        ),
        history_root=history_delta.root,
        history_size=history_delta.size,
        state_root=state_delta.root,
        replica_set_digest=replica_set.compute_digest(),
        next_replica_set_digest=next_replica_set.compute_digest(),
    )
    return wrap_speculation(header, execution, state_delta, history_delta, next_replica_set)


def wrap_speculation(
    header: Header,
    execution: Execution,
    state_delta: StateDelta,
    history_delta: HistoryDelta,
    next_replica_set: ReplicaSet,
) -> Speculation:
    """A finished header with what its commit will apply."""
    header_bytes = encode(header)
    return Speculation(
        header=header,
        header_bytes=header_bytes,
        digest=compute_header_digest(header_bytes),
        execution=execution,
        state_delta=state_delta,
        history_delta=history_delta,
        next_replica_set=next_replica_set,
    )

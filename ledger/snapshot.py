"""A snapshot: everything that a node needs to go on from one height, in parts that are verified one by one.

The manifest carries a header with its certificate and, under the roots of that header, the hashes of all
parts. So whoever knows the genesis verifies the manifest by itself, and then each part by the manifest:

- a *state chunk* holds the rows of one subtree of the state tree (`ledger.state_chunk`);
- a *history chunk* holds the leaf hashes of 4,096 consecutive receipts, so that old receipts stay provable;
- a *window block* is one of the recent blocks in which a transaction may lie that has not expired yet:
  without them a joined node would include it a second time, and no other node would. It comes with its
  receipts.

The window reaches from the last block that is as old as the longest expiry, or block 1, up to the snapshot.
Its lowest block is the *base* of the node that joins: nothing below it is held, as on a node that has pruned.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta, Struct

from consensus.certificates import Certificate
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import DIGEST_BYTES
from crypto.merkle import compute_root
from ledger.archive import Archive
from ledger.block import (
    HEADER_BYTES_MAX,
    Header,
    compute_transactions_digest,
)
from ledger.epochs import EpochChange, follow_epochs, verify_certified_header
from ledger.errors import NotHeld, ProofRefused, SnapshotRefused
from ledger.genesis import Genesis
from ledger.history_tree import compute_range_root, read_leaves
from ledger.pacing import Pacer
from ledger.proofs import EPOCH_CHANGES_MAX
from ledger.receipt import compute_history_leaf_hash, decode_receipt
from ledger.state_chunk import SubtreePlan
from ledger.state_tree import compute_tree_root
from ledger.store import Rows
from ledger.transaction import SignedTransaction, TransactionRefused, decode_transaction

FORMAT_VERSION: Final = 1
HISTORY_CHUNK_LEAVES: Final = 4_096
"""Leaf hashes in one history chunk: 128 KiB, and in the worst case as many rows to read."""
MANIFEST_BYTES_MAX: Final = 33_554_432
"""128 KiB of state hashes and 32 bytes for every 4,096 receipts: enough for four thousand million."""

_HeaderBytes = Annotated[bytes, Meta(max_length=HEADER_BYTES_MAX)]


class CertifiedHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A header with the votes that make it final."""

    header: _HeaderBytes
    certificate: Certificate


class Manifest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What a snapshot consists of. Field order is the format."""

    format_version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)] = FORMAT_VERSION
    head: CertifiedHeader
    """The block after which the state is as the snapshot has it."""
    epoch_changes: Annotated[tuple[EpochChange, ...], Meta(max_length=EPOCH_CHANGES_MAX)]
    """Every change of the replica set since the genesis, those right above the head's own block included."""
    base: Annotated[tuple[CertifiedHeader, ...], Meta(max_length=2)]
    """The lowest block of the window and the one after it; none when the window begins with block 1."""
    state_nodes: bytes
    """Hashes of all subtrees, 32 bytes each."""
    history_nodes: bytes
    """Roots over each 4,096 receipts, the last run shorter, 32 bytes each."""


class WindowBlock(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A recent block as it stands in the database."""

    header: _HeaderBytes
    certificate: Certificate
    transactions: tuple[bytes, ...]
    """Signed bytes in block order."""
    receipts: tuple[bytes, ...]


class Epochs:
    """The replica sets since the genesis, and which heights each of them certifies."""

    def __init__(self, genesis: Genesis, changes: Sequence[EpochChange]) -> None:
        """Raises SnapshotRefused when a change does not follow from the set before it."""
        self.genesis = genesis
        self._chain_id = genesis.compute_chain_id()
        try:
            follow_epochs(genesis, changes)
        except ProofRefused as error:
            raise SnapshotRefused("epochs", str(error), "the changes since the genesis") from error
        self._sets = (genesis.replica_set, *(change.replica_set for change in changes))
        self._ends = tuple(change.certificate.height for change in changes)

    def count_above(self, header: Header) -> int:
        """How many changes must stand right above this block: its own, and those of the institutions."""
        names_another = header.next_replica_set_digest != header.replica_set_digest
        return max(self._ends.count(header.height), int(names_another))

    def verify(self, certified: CertifiedHeader, where: str) -> Header:
        """The header, when the replica set of its height certified it. Raises SnapshotRefused."""
        height = certified.certificate.height
        epoch = bisect_left(self._ends, height)
        try:
            return verify_certified_header(
                certified.header, certified.certificate, self._sets[epoch], self._chain_id, where=where
            )
        except ProofRefused as error:
            raise SnapshotRefused(where, str(error), "a certified header") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest that the genesis vouches for; its parts are verified here."""

    genesis: Genesis
    manifest: Manifest
    epochs: Epochs
    header: Header
    base: int
    """The lowest height of the window."""

    @property
    def height(self) -> int:
        return self.header.height

    @property
    def plan(self) -> SubtreePlan:
        return SubtreePlan(self.genesis.parameters.state_buckets_log2)

    @property
    def history_chunks(self) -> int:
        return len(self.manifest.history_nodes) // DIGEST_BYTES

    def list_subtrees(self) -> list[int]:
        """Subtrees that have rows."""
        empty, nodes = self.plan.compute_empty_hash(), self.manifest.state_nodes
        return [number for number in range(self.plan.count) if _get_node(nodes, number) != empty]

    def verify_state_node(self, subtree: int, node: bytes) -> None:
        """Return when the subtree's rows make this hash. Raises SnapshotRefused."""
        expected = _get_node(self.manifest.state_nodes, subtree)
        if node != expected:
            raise SnapshotRefused(f"state chunk {subtree}", node, expected)

    def verify_history_chunk(self, number: int, chunk: bytes) -> tuple[bytes, ...]:
        """The leaf hashes of a history chunk. Raises SnapshotRefused."""
        leaves = tuple(chunk[at : at + DIGEST_BYTES] for at in range(0, len(chunk), DIGEST_BYTES))
        expected = min(HISTORY_CHUNK_LEAVES, self.header.history_size - number * HISTORY_CHUNK_LEAVES)
        where = f"history chunk {number}"
        if len(chunk) != expected * DIGEST_BYTES:
            raise SnapshotRefused(where, f"{len(chunk)} bytes", f"{expected} hashes")
        root, node = compute_root(leaves), _get_node(self.manifest.history_nodes, number)
        if root != node:
            raise SnapshotRefused(where, root, node)
        return leaves

    def verify_window_block(self, height: int, chunk: bytes) -> VerifiedBlock:
        """A block of the window; its receipts are for the caller to compare with history.

        Raises SnapshotRefused.
        """
        where = f"block {height}"
        try:
            block = decode_as(WindowBlock, chunk, size_max=len(chunk))
            transactions = tuple(map(decode_transaction, block.transactions))
            receipts = tuple(map(decode_receipt, block.receipts))
        except (EncodingError, TransactionRefused) as error:
            raise SnapshotRefused(where, str(error), "a block with its receipts") from error
        header = self.epochs.verify(CertifiedHeader(block.header, block.certificate), where)
        if header.height != height:
            raise SnapshotRefused(where, f"height {header.height}", str(height))
        digest = compute_transactions_digest([transaction.signed_hash for transaction in transactions])
        if digest != header.transactions_digest:
            raise SnapshotRefused(where, digest, header.transactions_digest)
        ids = [receipt.transaction_id for receipt in receipts]
        if ids != [transaction.transaction_id for transaction in transactions]:
            raise SnapshotRefused(where, f"{len(ids)} receipts", "one of each transaction")
        _verify_place(where, header, self.header, self.base, self.genesis)
        return VerifiedBlock(block, header, transactions)


@dataclass(frozen=True, slots=True)
class VerifiedBlock:
    """A certified block of the window; its receipts only once `verify_receipts` has returned."""

    block: WindowBlock
    header: Header
    transactions: tuple[SignedTransaction, ...]

    @property
    def first_leaf(self) -> int:
        """Number of its first receipt in history."""
        return self.header.history_size - self.header.transaction_count

    def verify_receipts(self, leaves: Sequence[bytes]) -> None:
        """Return when history has these leaf hashes for the receipts. Raises SnapshotRefused."""
        found = [
            compute_history_leaf_hash(transaction.transaction_id, receipt)
            for transaction, receipt in zip(self.transactions, self.block.receipts, strict=True)
        ]
        if found != list(leaves):
            raise SnapshotRefused(f"block {self.header.height}", "receipts", "those of the history")


def decode_manifest(data: bytes) -> Manifest:
    """Raises SnapshotRefused when the bytes are no manifest; what it says is not checked yet."""
    try:
        return decode_as(Manifest, data, size_max=MANIFEST_BYTES_MAX)
    except EncodingError as error:
        raise SnapshotRefused("manifest", str(error), "a manifest") from error


def verify_manifest(manifest: Manifest, genesis: Genesis) -> VerifiedManifest:
    """The manifest, once everything in it follows from the genesis. Raises SnapshotRefused."""
    epochs = Epochs(genesis, manifest.epoch_changes)
    header = epochs.verify(manifest.head, "head")
    changes = header.epoch + epochs.count_above(header)
    if len(manifest.epoch_changes) != changes:
        raise SnapshotRefused("epochs", len(manifest.epoch_changes), changes)
    plan = SubtreePlan(genesis.parameters.state_buckets_log2)
    if len(manifest.state_nodes) != plan.count * DIGEST_BYTES:
        raise SnapshotRefused("state", f"{len(manifest.state_nodes)} bytes", f"{plan.count} hashes")
    state_root = compute_tree_root(manifest.state_nodes)
    if state_root != header.state_root:
        raise SnapshotRefused("state", state_root, header.state_root)
    chunks = -(-header.history_size // HISTORY_CHUNK_LEAVES)
    if len(manifest.history_nodes) != chunks * DIGEST_BYTES:
        raise SnapshotRefused("history", f"{len(manifest.history_nodes)} bytes", f"{chunks} hashes")
    history_root = compute_root([_get_node(manifest.history_nodes, number) for number in range(chunks)])
    if history_root != header.history_root:
        raise SnapshotRefused("history", history_root, header.history_root)
    base = 1
    if manifest.base:
        base = _verify_base(manifest, epochs, header)
    return VerifiedManifest(genesis=genesis, manifest=manifest, epochs=epochs, header=header, base=base)


def make_manifest(rows: Rows, genesis: Genesis, *, height: int, state_nodes: bytes, pacer: Pacer) -> Manifest:
    """The manifest of the committed block `height`, whose state these subtrees make.

    Raises NotHeld where the blocks of the window are not held, or the block is not certified.
    """
    archive = Archive(rows)
    header = archive.get_header(height)
    assert header is not None
    size = header.history_size
    history_nodes = bytearray()
    for start in range(0, size, HISTORY_CHUNK_LEAVES):
        history_nodes += compute_range_root(rows, start, min(start + HISTORY_CHUNK_LEAVES, size))
        pacer.pause()
    base = find_window_base(archive, genesis, height)
    edge = (base, base + 1) if base > 1 else ()
    return Manifest(
        head=_get_certified_header(archive, height),
        epoch_changes=(*archive.list_epoch_changes(header.epoch), *archive.list_changes_above(header)),
        base=tuple(_get_certified_header(archive, edge_height) for edge_height in edge),
        state_nodes=state_nodes,
        history_nodes=bytes(history_nodes),
    )


def find_window_base(archive: Archive, genesis: Genesis, height: int) -> int:
    """The last height whose transactions have all expired at `height`, or 1. Raises NotHeld."""
    head = archive.get_header(height)
    assert head is not None
    oldest_ms = head.time_ms - genesis.parameters.expiry_window_ms_max
    low, high = archive.get_base(), height
    if low > 1 and _get_time_ms(archive, low) > oldest_ms:
        raise NotHeld(f"blocks below height {low} are not held, and some of the window are among them")
    # Block time grows with height: the last one that is old enough is found by halving.
    while low < high:
        middle = (low + high + 1) // 2
        if _get_time_ms(archive, middle) <= oldest_ms:
            low = middle
        else:
            high = middle - 1
    return low


def read_history_chunk(rows: Rows, number: int, history_size: int) -> bytes:
    """The leaf hashes of one history chunk of a tree of `history_size` receipts; never pruned."""
    first = number * HISTORY_CHUNK_LEAVES
    return b"".join(read_leaves(rows, first, min(HISTORY_CHUNK_LEAVES, history_size - first)))


def read_window_block(archive: Archive, height: int) -> bytes | None:
    """A block with its receipts as a part of a snapshot, None where it is not held."""
    header, certificate = archive.get_header_bytes(height), archive.get_certificate(height)
    if header is None or certificate is None:
        return None
    receipts = archive.get_receipt_rows(height)
    return encode(WindowBlock(header, certificate, archive.get_signed_transactions(height), receipts))


def _verify_base(manifest: Manifest, epochs: Epochs, head: Header) -> int:
    """The window's lowest height: too high, and a transaction could come twice; too low costs time only."""
    headers = [epochs.verify(certified, "base") for certified in manifest.base]
    heights = [header.height for header in headers]
    if heights != [heights[0], heights[0] + 1] or not 1 < heights[0] < head.height:
        raise SnapshotRefused("base", f"heights {heights}", f"two neighbours below {head.height}")
    for header in headers:
        _verify_place("base", header, head, heights[0], epochs.genesis)
    return heights[0]


def _verify_place(where: str, header: Header, head: Header, base: int, genesis: Genesis) -> None:
    """Return when the block belongs into the window: the base expired or is block 1, the others have not."""
    oldest_ms = head.time_ms - genesis.parameters.expiry_window_ms_max
    if header.height == 1 and base == 1:
        return
    if (header.time_ms <= oldest_ms) != (header.height == base):
        raise SnapshotRefused(where, f"time {header.time_ms} at height {header.height}", f"base {base} only")


def _get_certified_header(archive: Archive, height: int) -> CertifiedHeader:
    header, certificate = archive.get_header_bytes(height), archive.get_certificate(height)
    if header is None or certificate is None:
        raise NotHeld(f"no certified block of height {height} is held")
    return CertifiedHeader(header, certificate)


def _get_time_ms(archive: Archive, height: int) -> int:
    header = archive.get_header(height)
    assert header is not None
    return header.time_ms


def _get_node(nodes: bytes, number: int) -> bytes:
    return nodes[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]

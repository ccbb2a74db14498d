"""Building a node's ledger from a snapshot whose parts are all there.

The database is built in a folder beside the one in use and takes its place by one rename, after every byte
of it is on the disk. So a crash at any moment leaves the old ledger, or none, or the whole new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog

from crypto.encoding import EncodingError, encode
from crypto.hashing import DIGEST_BYTES
from ledger import layout
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.contract_set import ContractSet
from ledger.errors import SnapshotRefused, StoreFailed, StoreInUse
from ledger.genesis_block import compute_genesis_block
from ledger.history_tree import HistoryTree
from ledger.pacing import Pacer
from ledger.settings import StoreSettings
from ledger.snapshot import HISTORY_CHUNK_LEAVES, VerifiedBlock, VerifiedManifest
from ledger.speculation import decode_head, encode_head
from ledger.state_chunk import decode_state_chunk
from ledger.store import Store

BATCH_BYTES: Final = 1_048_576
"""Rows written to the new database at once."""
LEAVES_PER_ROW: Final = 256
"""Leaf hashes in one row of a joined node; where blocks are committed, a row has one block's."""

_log = structlog.get_logger("ledger.snapshots")

Rows = Iterable[tuple[bytes, bytes]]


def install_snapshot(
    snapshot: VerifiedManifest,
    chunks: ChunkFile,
    *,
    ledger_directory: Path,
    contract_set: ContractSet,
    settings: StoreSettings,
    pacer: Pacer,
) -> None:
    """Put the snapshot's ledger in the place of the one in `ledger_directory`, which must not be open.

    A ledger that has blocks may be the last that has them: it stays beside the new one, for the operator to
    keep or to delete. Raises SnapshotRefused when a part is missing or was damaged since it was verified,
    WorkStopped, StoreFailed, OSError.
    """
    building = ledger_directory.with_name(ledger_directory.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    store = Store.open(building, settings)
    try:
        for batch in _gather(_list_rows(snapshot, chunks, contract_set, pacer)):
            store.write(batch, is_synced=False)
    finally:
        store.close()
    _sync_folder(building)
    if ledger_directory.exists():
        _put_aside(ledger_directory, settings)
    building.rename(ledger_directory)
    _sync(ledger_directory.parent)


def verify_block(snapshot: VerifiedManifest, chunks: ChunkFile, height: int, chunk: bytes) -> VerifiedBlock:
    """A block of the window with its receipts, verified by the history that is here already.

    Raises SnapshotRefused.
    """
    block = snapshot.verify_window_block(height, chunk)
    block.verify_receipts(_read_leaves(snapshot, chunks, block.first_leaf, block.header.transaction_count))
    return block


def _list_rows(
    snapshot: VerifiedManifest, chunks: ChunkFile, contract_set: ContractSet, pacer: Pacer
) -> Iterator[tuple[bytes, bytes]]:
    """Every row of the new database, the head last."""
    genesis_block = compute_genesis_block(snapshot.genesis, contract_set)
    yield layout.compute_header_key(0), genesis_block.header_bytes
    for subtree in snapshot.list_subtrees():
        decoded = decode_state_chunk(_read(chunks, ChunkKind.STATE, subtree), subtree, snapshot.plan)
        snapshot.verify_state_node(subtree, decoded.node)
        yield from decoded.list_database_rows()
        pacer.pause()
    tree = HistoryTree()
    for number in range(snapshot.history_chunks):
        leaves = snapshot.verify_history_chunk(number, _read(chunks, ChunkKind.HISTORY, number))
        for start in range(0, len(leaves), LEAVES_PER_ROW):
            delta = tree.compute_delta(leaves[start : start + LEAVES_PER_ROW])
            tree.apply(delta)
            yield from delta.rows
        pacer.pause()
    for height in range(snapshot.base, snapshot.height + 1):
        chunk = _read(chunks, ChunkKind.BLOCK, height)
        yield from _list_block_rows(verify_block(snapshot, chunks, height, chunk))
        pacer.pause()
    for epoch, change in enumerate(snapshot.manifest.epoch_changes):
        yield layout.compute_epoch_key(epoch), encode(change)
    yield layout.BASE, snapshot.base.to_bytes(8, "big")
    yield layout.GENESIS, encode(snapshot.genesis)
    yield layout.HEAD, encode_head(snapshot.height, tree.frontier)


def _list_block_rows(verified: VerifiedBlock) -> Iterator[tuple[bytes, bytes]]:
    block, height = verified.block, verified.header.height
    yield layout.compute_header_key(height), block.header
    yield layout.compute_certificate_key(height), encode(block.certificate)
    yield layout.compute_transactions_key(height), layout.encode_items(block.transactions)
    yield layout.compute_receipts_key(height), layout.encode_items(block.receipts)
    for index, transaction in enumerate(verified.transactions):
        yield (
            layout.compute_position_key(transaction.transaction_id),
            layout.encode_position(height, index),
        )


def _read_leaves(snapshot: VerifiedManifest, chunks: ChunkFile, first: int, count: int) -> list[bytes]:
    """Leaf hashes from verified history chunks. Raises SnapshotRefused when one of them is missing."""
    leaves: list[bytes] = []
    while count:
        number, skip = divmod(first, HISTORY_CHUNK_LEAVES)
        chunk = _read(chunks, ChunkKind.HISTORY, number)
        taken = min(count, HISTORY_CHUNK_LEAVES - skip)
        leaves += [chunk[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES] for at in range(skip, skip + taken)]
        first, count = first + taken, count - taken
    return leaves


def _read(chunks: ChunkFile, kind: ChunkKind, number: int) -> bytes:
    chunk = chunks.read(kind, number)
    if chunk is None:
        raise SnapshotRefused(f"{kind.name.lower()} chunk {number}", "nothing", "a part that was verified")
    return chunk


def _gather(rows: Rows) -> Iterator[list[tuple[bytes, bytes]]]:
    """Rows in batches of about BATCH_BYTES."""
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for key, row in rows:
        batch.append((key, row))
        size += len(key) + len(row)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _put_aside(ledger_directory: Path, settings: StoreSettings) -> None:
    """Rename the ledger to `ledger.until-HEIGHT`; one that has nothing but its genesis is deleted."""
    try:
        store = Store.open(ledger_directory, settings)
        row = store.get(layout.HEAD)
        store.close()
        height = 0 if row is None else decode_head(row)[0]
    except StoreInUse:
        raise
    except (StoreFailed, EncodingError):
        height = -1  # Damaged: whoever inspects it may find out how far it went.
    if height == 0:
        shutil.rmtree(ledger_directory)
        return
    until = ledger_directory.with_name(f"{ledger_directory.name}.until-{height if height > 0 else 'unknown'}")
    shutil.rmtree(until, ignore_errors=True)
    ledger_directory.rename(until)
    _log.warning("the replaced ledger is kept", folder=str(until))


def _sync_folder(folder: Path) -> None:
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

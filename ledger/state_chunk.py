"""All rows of one subtree of the state tree: what a joining node is given, and how it is checked.

A chunk is the canonical array key, row, key, row, …, in the order of the key hashes. The hash of its subtree
follows from it alone, and a certified header commits to that hash; so each chunk is verified by itself,
whoever gave it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from crypto.encoding import EncodingError
from crypto.hashing import DIGEST_BYTES, Digest
from ledger import layout
from ledger.errors import SnapshotRefused
from ledger.state_tree import (
    ARITY,
    EMPTY_BUCKET_HASH,
    compute_bucket_hash,
    compute_bucket_index,
    compute_key_hash,
    compute_tree_root,
    compute_value_hash,
)

DEPTH_MAX: Final = 3
"""Subtrees begin at this level below the root at most: 4,096 of them, 128 KiB of hashes in a manifest."""


@dataclass(frozen=True, slots=True)
class SubtreePlan:
    """How a state of 2 to the `buckets_log2` buckets is cut into subtrees; the same for every node."""

    buckets_log2: int

    @property
    def count(self) -> int:
        """Subtrees altogether."""
        return int(ARITY ** min(DEPTH_MAX, self.buckets_log2 // 4))

    @property
    def buckets(self) -> int:
        """Buckets in each."""
        return (1 << self.buckets_log2) // self.count

    def compute_subtree(self, key_hash: bytes) -> int:
        """In which subtree a row lies."""
        return compute_bucket_index(key_hash, self.buckets_log2) // self.buckets

    def compute_empty_hash(self) -> Digest:
        """The hash of a subtree without rows."""
        return compute_tree_root(EMPTY_BUCKET_HASH * self.buckets)


@dataclass(frozen=True, slots=True)
class StateChunk:
    """The decoded rows of one subtree, and what follows from them."""

    rows: tuple[tuple[bytes, bytes], ...]
    """State key and row, in the order of the key hashes."""
    buckets: dict[int, bytes]
    """The row of each bucket that is not empty: its sorted entries."""
    node: Digest
    """The subtree's hash."""

    def list_database_rows(self) -> Iterator[tuple[bytes, bytes]]:
        """What the database holds for these rows, in layout.py's tables."""
        for key, row in self.rows:
            yield layout.STATE + key, row
        for bucket, entries in self.buckets.items():
            yield layout.compute_bucket_key(bucket), entries


def encode_state_chunk(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The chunk of a subtree's rows, given in any order."""
    ordered = sorted(rows, key=lambda item: compute_key_hash(item[0]))
    return layout.encode_items([part for item in ordered for part in item])


def decode_state_chunk(chunk: bytes, subtree: int, plan: SubtreePlan) -> StateChunk:
    """The rows of a chunk and the subtree hash that they make; the caller compares it.

    Raises SnapshotRefused for bytes that are no chunk of this subtree in its one order.
    """
    where = f"state chunk {subtree}"
    try:
        items = layout.decode_items(chunk)
    except EncodingError as error:
        raise SnapshotRefused(where, str(error), "keys and rows in turn") from error
    if len(items) % 2:
        raise SnapshotRefused(where, f"{len(items)} items", "keys and rows in turn")
    rows = tuple(zip(items[0::2], items[1::2], strict=True))
    buckets: dict[int, bytearray] = {}
    previous = b""
    for key, row in rows:
        key_hash = compute_key_hash(key)
        if key_hash <= previous:
            raise SnapshotRefused(where, key_hash, f"a key hash above {previous.hex()}")
        previous = key_hash
        bucket = compute_bucket_index(key_hash, plan.buckets_log2)
        buckets.setdefault(bucket, bytearray()).extend(key_hash + compute_value_hash(row))
    first = subtree * plan.buckets
    if buckets and not first <= min(buckets) <= max(buckets) < first + plan.buckets:
        raise SnapshotRefused(where, f"rows of buckets {min(buckets)} to {max(buckets)}", f"from {first} on")
    hashes = bytearray(EMPTY_BUCKET_HASH * plan.buckets)
    finished = {bucket: bytes(entries) for bucket, entries in buckets.items()}
    for bucket, entries in finished.items():
        at = (bucket - first) * DIGEST_BYTES
        hashes[at : at + DIGEST_BYTES] = compute_bucket_hash(entries)
    return StateChunk(rows, finished, compute_tree_root(bytes(hashes)))

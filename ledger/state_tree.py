"""The state tree: one root over every row of state, with proofs of presence and of absence.

A fixed 16-ary hash tree stands over 2^k hash buckets (k is a genesis parameter, a multiple of 4). A row
falls into the bucket that the first k bits of its key hash name. A bucket's hash covers the number of its
entries and the RFC 6962 root over them, sorted, each being key hash ‖ value hash; so two neighbouring
entries show that nothing lies between them, and no proof reveals another row's key or value.

    key hash    = H(STATE_KEY ‖ full state key)
    value hash  = H(STATE_VALUE ‖ row)
    bucket hash = H(STATE_BUCKET ‖ count, 8 bytes ‖ RFC 6962 root over the entries)
    node hash   = H(STATE_NODE ‖ 16 child hashes)

Invariant: the tree in memory is always that of the committed head. A block's changes are computed as a
`StateDelta` beside it; only `apply` moves it. The tree does not know where bucket rows are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from crypto import tags
from crypto.hashing import DIGEST_BYTES, Digest, compute_digest
from crypto.merkle import EMPTY_ROOT, compute_inclusion_path, compute_root

ARITY: Final = 16
ENTRY_BYTES: Final = 2 * DIGEST_BYTES
_NODE_BYTES: Final = ARITY * DIGEST_BYTES
_ONE_ENTRY: Final = tags.STATE_BUCKET + (1).to_bytes(8, "big")

_ROWS_PER_LOAD: Final = 16_384
"""Bucket rows taken in at once at start, so that memory stays with the tree itself."""

ReadBucket = Callable[[int], bytes]
"""A bucket's committed row: its sorted entries, 64 bytes each."""


def compute_key_hash(state_key: bytes) -> Digest:
    return Digest(sha256(tags.STATE_KEY + state_key).digest())


def compute_value_hash(row: bytes) -> Digest:
    return Digest(sha256(tags.STATE_VALUE + row).digest())


def compute_bucket_index(key_hash: bytes, buckets_log2: int) -> int:
    """The first `buckets_log2` bits, at most 32."""
    return int.from_bytes(key_hash[:4], "big") >> (32 - buckets_log2)


def compute_bucket_hash(entries: bytes) -> Digest:
    """The hash of a bucket whose row is `entries`."""
    if len(entries) == ENTRY_BYTES:
        # Nearly every bucket of a young ledger; the root over one entry is its leaf hash.
        return Digest(sha256(_ONE_ENTRY + sha256(b"\x00" + entries).digest()).digest())
    hashes = compute_entry_hashes(entries)
    return compute_counted_hash(len(hashes), compute_root(hashes))


def compute_counted_hash(count: int, root: bytes) -> Digest:
    return compute_digest(tags.STATE_BUCKET, count.to_bytes(8, "big"), root)


def compute_node(children: bytes) -> Digest:
    """The hash over 16 child hashes, 512 bytes."""
    return compute_digest(tags.STATE_NODE, children)


def compute_tree_root(hashes: bytes) -> Digest:
    """The root over a whole level of some subtree: 32 bytes for each of its nodes, a power of 16 of them."""
    while len(hashes) > DIGEST_BYTES:
        hashes = b"".join(
            compute_node(hashes[start : start + _NODE_BYTES]) for start in range(0, len(hashes), _NODE_BYTES)
        )
    return Digest(hashes)


def compute_entry_hashes(entries: bytes) -> list[bytes]:
    """RFC 6962 leaf hashes of a bucket's entries, in their order."""
    return [
        sha256(b"\x00" + entries[start : start + ENTRY_BYTES]).digest()
        for start in range(0, len(entries), ENTRY_BYTES)
    ]


EMPTY_BUCKET_HASH: Final = compute_counted_hash(0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True)
class StateDelta:
    """What one block changes in the tree, computed on an immutable parent."""

    parent_root: Digest
    root: Digest
    buckets: dict[int, bytes]
    """Changed buckets' whole new rows; empty when the last entry went."""
    nodes: tuple[dict[int, bytes], ...]
    """Changed hashes by index, one mapping for each level from the buckets up to the root."""


@dataclass(frozen=True, slots=True)
class BucketProof:
    """A bucket's path to the root, and the entries in it that matter."""

    count: int
    """Entries in the bucket."""
    entries: tuple[tuple[int, bytes, tuple[bytes, ...]], ...]
    """Index, entry (64 bytes) and RFC 6962 path: the one asked for, or its neighbours if it is absent."""
    siblings: tuple[bytes, ...]
    """For each level from the buckets up: the 15 other children of the parent, 480 bytes."""


class StateTree:
    """All hashes of the committed state: 32 bytes for each bucket and 1/15 more for the levels above."""

    def __init__(self, buckets_log2: int) -> None:
        """An empty state over 2 to the `buckets_log2` buckets."""
        if buckets_log2 % 4 or not 4 <= buckets_log2 <= 24:
            raise ValueError(f"{buckets_log2} bits of buckets found, a multiple of 4 from 4 to 24 expected")
        self.buckets_log2 = buckets_log2
        self._levels: list[bytearray] = []
        node, count = EMPTY_BUCKET_HASH, 1 << buckets_log2
        while True:
            self._levels.append(bytearray(node * count))
            if count == 1:
                break
            node, count = compute_node(node * ARITY), count // ARITY

    @property
    def root(self) -> Digest:
        return Digest(bytes(self._levels[-1]))

    def load(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Take in the bucket rows of a stored state; the tree must be empty before."""
        rows = iter(rows)
        while chunk := list(islice(rows, _ROWS_PER_LOAD)):
            hashes: dict[int, bytes] = {bucket: compute_bucket_hash(entries) for bucket, entries in chunk}
            self._apply_nodes(self._compute_nodes(hashes))

    def compute_delta(self, writes: Mapping[bytes, bytes | None], read_bucket: ReadBucket) -> StateDelta:
        """The tree after `writes` (full state key to row, None to delete); nothing here changes."""
        shift, committed = 32 - self.buckets_log2, self._levels[0]
        key_tag, value_tag = tags.STATE_KEY, tags.STATE_VALUE
        buckets: dict[int, bytes] = {}
        crowded: dict[int, dict[bytes, bytes | None]] = {}
        for key, row in writes.items():
            key_hash = sha256(key_tag + key).digest()
            value_hash = None if row is None else sha256(value_tag + row).digest()
            bucket = int.from_bytes(key_hash[:4], "big") >> shift
            if (
                value_hash is not None
                and bucket not in buckets
                and committed.startswith(EMPTY_BUCKET_HASH, bucket * DIGEST_BYTES)
            ):
                # Nearly every write of a young ledger: the first entry of its bucket, nothing to merge.
                buckets[bucket] = key_hash + value_hash
            else:
                crowded.setdefault(bucket, {})[key_hash] = value_hash
        for bucket, changed in crowded.items():
            before = buckets.get(bucket)
            buckets[bucket] = _merge_entries(read_bucket(bucket) if before is None else before, changed)
        hashes: dict[int, bytes] = {
            bucket: compute_bucket_hash(entries) for bucket, entries in buckets.items()
        }
        nodes = self._compute_nodes(hashes)
        root = Digest(nodes[-1][0]) if nodes[-1] else self.root
        return StateDelta(self.root, root, buckets, nodes)

    def may_hold(self, state_key: bytes) -> bool:
        """False when the committed state has no row under the key, told without reading any row.

        Its bucket is then empty, as most are that a fresh random id falls into.
        """
        bucket = int.from_bytes(sha256(tags.STATE_KEY + state_key).digest()[:4], "big") >> (
            32 - self.buckets_log2
        )
        return not self._levels[0].startswith(EMPTY_BUCKET_HASH, bucket * DIGEST_BYTES)

    def apply(self, delta: StateDelta) -> None:
        """Make a block's changes the committed tree. Raises ValueError for a delta on another parent."""
        if delta.parent_root != self.root:
            raise ValueError(f"delta on state {delta.parent_root.hex()}, but {self.root.hex()} is committed")
        self._apply_nodes(delta.nodes)

    def prove(self, state_key: bytes, read_bucket: ReadBucket) -> BucketProof:
        """Presence or absence of `state_key` under the committed root."""
        key_hash = compute_key_hash(state_key)
        bucket = compute_bucket_index(key_hash, self.buckets_log2)
        row = read_bucket(bucket)
        entries = [row[start : start + ENTRY_BYTES] for start in range(0, len(row), ENTRY_BYTES)]
        position = sum(entry[:DIGEST_BYTES] < key_hash for entry in entries)
        if position < len(entries) and entries[position][:DIGEST_BYTES] == key_hash:
            shown = [position]
        else:
            shown = [index for index in (position - 1, position) if 0 <= index < len(entries)]
        hashes = compute_entry_hashes(row)
        return BucketProof(
            count=len(entries),
            entries=tuple((index, entries[index], compute_inclusion_path(hashes, index)) for index in shown),
            siblings=self._compute_siblings(bucket),
        )

    def _compute_siblings(self, bucket: int) -> tuple[bytes, ...]:
        siblings, index = [], bucket
        for level in self._levels[:-1]:
            start = index // ARITY * _NODE_BYTES
            own = start + index % ARITY * DIGEST_BYTES
            siblings.append(bytes(level[start:own] + level[own + DIGEST_BYTES : start + _NODE_BYTES]))
            index //= ARITY
        return tuple(siblings)

    def _compute_nodes(self, hashes: dict[int, bytes]) -> tuple[dict[int, bytes], ...]:
        """Changed hashes of every level, from those of the buckets."""
        tag, levels, changed = tags.STATE_NODE, [hashes], hashes
        for below in self._levels[:-1]:
            parents: dict[int, bytearray] = {}
            for index, digest in changed.items():
                parent = index >> 4
                children = parents.get(parent)
                if children is None:
                    start = parent * _NODE_BYTES
                    children = parents[parent] = below[start : start + _NODE_BYTES]
                start = (index & 15) * DIGEST_BYTES
                children[start : start + DIGEST_BYTES] = digest
            changed = {parent: sha256(tag + children).digest() for parent, children in parents.items()}
            levels.append(changed)
        return tuple(levels)

    def _apply_nodes(self, nodes: tuple[dict[int, bytes], ...]) -> None:
        for level, changed in zip(self._levels, nodes, strict=True):
            for index, digest in changed.items():
                start = index * DIGEST_BYTES
                level[start : start + DIGEST_BYTES] = digest


def _merge_entries(row: bytes, changed: dict[bytes, bytes | None]) -> bytes:
    """A bucket's row after changes: key hash to value hash, None to drop the entry."""
    entries: dict[bytes, bytes | None] = {
        row[start : start + DIGEST_BYTES]: row[start + DIGEST_BYTES : start + ENTRY_BYTES]
        for start in range(0, len(row), ENTRY_BYTES)
    }
    entries.update(changed)
    return b"".join(
        key_hash + value_hash for key_hash, value_hash in sorted(entries.items()) if value_hash is not None
    )

"""The proof of one row of the state, or of its absence, by the bucket that its key belongs to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from crypto.hashing import DIGEST_BYTES
from crypto.merkle import EMPTY_ROOT, PATH_LENGTH_MAX, compute_leaf_hash, compute_node_hash
from ledger.errors import ProofRefused
from ledger.state_tree import (
    ARITY,
    ENTRY_BYTES,
    BucketProof,
    compute_bucket_index,
    compute_counted_hash,
    compute_key_hash,
    compute_node,
    compute_value_hash,
)

_Hash = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
_Path = Annotated[tuple[_Hash, ...], Meta(max_length=PATH_LENGTH_MAX)]
_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
BucketEntry = tuple[_Counter, Annotated[bytes, Meta(min_length=ENTRY_BYTES, max_length=ENTRY_BYTES)], _Path]
"""Index, entry and path within the bucket."""

BucketSiblings = Annotated[
    bytes, Meta(min_length=(ARITY - 1) * DIGEST_BYTES, max_length=(ARITY - 1) * DIGEST_BYTES)
]
"""The 15 other hashes of one level."""


def verify_bucket(
    proof: BucketProof, *, state_key: bytes, row: bytes | None, root: bytes, buckets_log2: int
) -> None:
    """Return when under state root `root` the key has `row`, or no row if it is None. Raises ProofRefused."""
    key_hash = compute_key_hash(state_key)
    if row is None:
        _check_neighbours(proof, key_hash)
    else:
        entry = key_hash + compute_value_hash(row)
        if [shown for _, shown, _ in proof.entries] != [entry]:
            raise ProofRefused("bucket", "the entry shown is not that of the key and row")
    index = compute_bucket_index(key_hash, buckets_log2)
    node = _compute_bucket_hash(proof)
    if len(proof.siblings) * 4 != buckets_log2:
        raise ProofRefused("state path", f"{len(proof.siblings)} levels found, {buckets_log2 // 4} expected")
    for siblings in proof.siblings:
        at = index % ARITY * DIGEST_BYTES
        node = compute_node(siblings[:at] + node + siblings[at:])
        index //= ARITY
    if node != root:
        raise ProofRefused("state path", f"leads to root {node.hex()}, {root.hex()} expected")


def _check_neighbours(proof: BucketProof, key_hash: bytes) -> None:
    """Return when the entries shown leave no place for `key_hash` in their bucket."""
    places = [(index, entry[:DIGEST_BYTES]) for index, entry, _ in proof.entries]
    if any(found == key_hash for _, found in places):
        raise ProofRefused("bucket", "the key is present, its absence was to be shown")
    below = [index for index, found in places if found < key_hash]
    above = [index for index, found in places if found > key_hash]
    left = below[-1] if below else -1
    right = above[0] if above else proof.count
    if len(below) > 1 or len(above) > 1 or right != left + 1:
        raise ProofRefused("bucket", f"entries {left} and {right} of {proof.count} are not neighbours")


def _compute_bucket_hash(proof: BucketProof) -> bytes:
    """The hash of the bucket that holds all the entries shown."""
    if not proof.entries:
        # Only a bucket of no entries has none to show: the count is under the hash, so it cannot be denied.
        return compute_counted_hash(proof.count, EMPTY_ROOT)
    roots = set()
    for index, entry, path in proof.entries:
        roots.add(_compute_inclusion_root(compute_leaf_hash(entry), index, proof.count, path))
    if len(roots) != 1:
        raise ProofRefused("bucket", "the entries shown belong to different buckets")
    return compute_counted_hash(proof.count, roots.pop())


def _compute_inclusion_root(leaf_hash: bytes, index: int, size: int, path: tuple[bytes, ...]) -> bytes:
    """The root to which an audit path leads; the inverse of `verify_inclusion`."""
    if not 0 <= index < size:
        raise ProofRefused("bucket", f"entry {index} of {size}")
    result, last, used = leaf_hash, size - 1, 0
    while last > 0:
        if index & 1 or index < last:
            if used == len(path):
                raise ProofRefused("bucket", f"path of {used} hashes is too short for {size} entries")
            pair = (path[used], result) if index & 1 else (result, path[used])
            result, used = compute_node_hash(*pair), used + 1
        index, last = index >> 1, last >> 1
    if used != len(path):
        raise ProofRefused("bucket", f"path of {len(path)} hashes is too long for {size} entries")
    return result

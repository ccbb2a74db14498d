"""Merkle trees of RFC 6962: roots, inclusion proofs, consistency proofs, and their verification.

A leaf is hashed with a zero byte in front and an inner node with a one byte, so neither can pass as the
other. Trees of any size are allowed; the split falls at the largest power of two below the size.
Verification is the algorithm of RFC 9162, sections 2.1.3.2 and 2.1.4.2, which describes the same trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from crypto.hashing import DIGEST_BYTES, Digest

PATH_LENGTH_MAX = 64
"""No proof of a tree with at most 2^64 leaves is longer."""

EMPTY_ROOT = Digest(sha256(b"").digest())


class ProofError(ValueError):
    """A Merkle proof does not prove what it claims."""


def compute_leaf_hash(leaf: bytes) -> Digest:
    return Digest(sha256(b"\x00" + leaf).digest())


def compute_node_hash(left: bytes, right: bytes) -> Digest:
    return Digest(sha256(b"\x01" + left + right).digest())


def compute_root(leaf_hashes: Sequence[bytes]) -> Digest:
    """The root over hashed leaves, in O(n); EMPTY_ROOT for none. Source: RFC 6962, section 2.1."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = leaf_hashes
    while len(level) > 1:
        nodes = iter(level)
        above = [sha256(b"\x01" + left + right).digest() for left, right in zip(nodes, nodes, strict=False)]
        if len(level) & 1:
            # An odd node rises unpaired: the same tree as the recursive split at a power of two.
            above.append(level[-1])
        level = above
    return Digest(level[0])


def compute_inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """The audit path of leaf `index`, from the leaf upwards. Source: RFC 6962, section 2.1.1."""
    if not 0 <= index < len(leaf_hashes):
        raise IndexError(f"leaf {index} of a tree with {len(leaf_hashes)} leaves")
    path = []
    level = list(leaf_hashes)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(Digest(level[sibling]))
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[0::2], level[1::2], strict=False)
        level = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        level += odd
        index >>= 1
    return tuple(path)


def compute_consistency_path(leaf_hashes: Sequence[bytes], first_size: int) -> tuple[Digest, ...]:
    """Proof that the first `first_size` leaves were a prefix. Source: RFC 6962, section 2.1.2."""
    size = len(leaf_hashes)
    if not 0 < first_size <= size:
        raise IndexError(f"prefix of {first_size} leaves in a tree of {size}")
    return tuple(_subproof(leaf_hashes, first_size, is_whole=True))


def _subproof(leaf_hashes: Sequence[bytes], first_size: int, *, is_whole: bool) -> list[Digest]:
    size = len(leaf_hashes)
    if first_size == size:
        return [] if is_whole else [compute_root(leaf_hashes)]
    split = 1 << (size - 1).bit_length() - 1
    if first_size <= split:
        path = _subproof(leaf_hashes[:split], first_size, is_whole=is_whole)
        return [*path, compute_root(leaf_hashes[split:])]
    path = _subproof(leaf_hashes[split:], first_size - split, is_whole=False)
    return [*path, compute_root(leaf_hashes[:split])]


def verify_inclusion(*, leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Return when leaf `index` of a tree of `size` leaves with `root` hashes to `leaf_hash`.

    Raises ProofError otherwise. Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf index {index} found, below the tree size {size} expected")
    _check_path(path, leaf_hash, root)
    node, last, result = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            raise ProofError(f"inclusion path of {len(path)} hashes is too long for {size} leaves")
        if node & 1 or node == last:
            result = compute_node_hash(sibling, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = compute_node_hash(result, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise ProofError(f"inclusion path of {len(path)} hashes is too short for {size} leaves")
    if result != root:
        raise ProofError(f"inclusion path leads to root {result.hex()}, {root.hex()} expected")


def verify_consistency(
    *, first_size: int, first_root: bytes, second_size: int, second_root: bytes, path: Sequence[bytes]
) -> None:
    """Return when the tree of `second_size` leaves extends the tree of `first_size` leaves.

    Raises ProofError otherwise. Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= first_size <= second_size:
        raise ProofError(f"sizes {first_size} and {second_size} found, growth expected")
    _check_path(path, first_root, second_root)
    if first_size in (0, second_size):
        expected = EMPTY_ROOT if first_size == 0 else second_root
        if path or first_root != expected:
            raise ProofError(f"an empty path from root {expected.hex()} expected")
        return
    hashes = list(path)
    if first_size & (first_size - 1) == 0:
        hashes.insert(0, Digest(first_root))
    if not hashes:
        raise ProofError("consistency path is empty")
    node, last = first_size - 1, second_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError(f"consistency path of {len(path)} hashes is too long")
        if node & 1 or node == last:
            first, second = compute_node_hash(sibling, first), compute_node_hash(sibling, second)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            second = compute_node_hash(second, sibling)
        node >>= 1
        last >>= 1
    if last != 0 or first != first_root or second != second_root:
        raise ProofError("consistency path does not connect the two roots")


def _check_path(path: Sequence[bytes], *hashes: bytes) -> None:
    if len(path) > PATH_LENGTH_MAX:
        raise ProofError(f"path of {len(path)} hashes found, at most {PATH_LENGTH_MAX} expected")
    for item in (*path, *hashes):
        if len(item) != DIGEST_BYTES:
            raise ProofError(f"hash of {len(item)} bytes found, {DIGEST_BYTES} expected")

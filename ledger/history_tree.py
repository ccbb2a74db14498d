"""The history tree: an RFC 6962 tree with one leaf for each receipt, in ledger order.

In memory stands only the frontier, the roots of the complete subtrees that make up the whole (one for each
bit of the size). Stored are every leaf hash, one row for each block, and the roots of complete subtrees of
256, 65,536, … leaves; neither is ever rewritten or pruned. From these a path for any leaf at any size up to
the present one takes a few hundred hashes.

Invariant: like the state tree, this one moves only by `apply`; `compute_delta` leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from crypto.hashing import DIGEST_BYTES, Digest
from crypto.merkle import EMPTY_ROOT, compute_node_hash
from ledger.layout import LEAVES, compute_interior_key, compute_leaves_key
from ledger.store import Rows

STORED_LEVELS: Final = 8
"""Interior hashes are stored at every so many levels: over 2^8, 2^16, … leaves."""

Frontier = tuple[bytes, ...]
"""Level by level from the leaves: the root of the complete subtree there, or no bytes at all."""


@dataclass(frozen=True, slots=True)
class HistoryDelta:
    """What one block appends."""

    parent_size: int
    size: int
    root: Digest
    frontier: Frontier
    rows: tuple[tuple[bytes, bytes], ...]
    """Keys and rows to store."""


class HistoryTree:
    """The committed tree: its size and frontier."""

    def __init__(self, size: int = 0, frontier: Frontier = ()) -> None:
        if size != sum(1 << level for level, node in enumerate(frontier) if node):
            raise ValueError(f"frontier of {len(frontier)} levels does not make a tree of {size} leaves")
        self.size = size
        self.frontier = frontier

    @property
    def root(self) -> Digest:
        return _compute_frontier_root(self.frontier)

    def compute_delta(self, leaf_hashes: Sequence[bytes]) -> HistoryDelta:
        """The tree with `leaf_hashes` appended; nothing here changes."""
        if not leaf_hashes:
            return HistoryDelta(self.size, self.size, self.root, self.frontier, ())
        rows = [(compute_leaves_key(self.size), b"".join(leaf_hashes))]
        frontier: list[bytes] = []
        fresh, number, level = list(leaf_hashes), self.size, 0
        while fresh or level < len(self.frontier):
            if level and level % STORED_LEVELS == 0:
                rows += [(compute_interior_key(level, number + at), node) for at, node in enumerate(fresh)]
            waiting = self.frontier[level] if level < len(self.frontier) else b""
            if waiting:
                # The complete subtree to the left of the first fresh node was waiting for its sibling.
                fresh.insert(0, waiting)
                number -= 1
            frontier.append(fresh.pop() if len(fresh) % 2 else b"")
            pairs = zip(fresh[0::2], fresh[1::2], strict=True)
            fresh = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            number, level = number // 2, level + 1
        size = self.size + len(leaf_hashes)
        return HistoryDelta(self.size, size, _compute_frontier_root(frontier), tuple(frontier), tuple(rows))

    def apply(self, delta: HistoryDelta) -> None:
        """Make a block's leaves part of the tree. Raises ValueError for a delta on another size."""
        if delta.parent_size != self.size:
            raise ValueError(f"delta on {delta.parent_size} receipts, but {self.size} are committed")
        self.size, self.frontier = delta.size, delta.frontier


def compute_path(rows: Rows, index: int, size: int) -> tuple[Digest, ...]:
    """The audit path of leaf `index` in the tree of the first `size` leaves, from stored rows.

    Raises IndexError unless 0 <= index < size. Source: RFC 6962, section 2.1.1.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of a tree with {size} leaves")
    path: list[Digest] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if index < middle:
            path.append(compute_range_root(rows, middle, end))
            end = middle
        else:
            path.append(compute_range_root(rows, start, middle))
            start = middle
    return tuple(reversed(path))


def compute_range_root(rows: Rows, start: int, end: int) -> Digest:
    """RFC 6962 root over leaves from `start` below `end`, a node of the recursive split; from stored rows."""
    length = end - start
    if length & (length - 1):
        middle = start + (1 << (length - 1).bit_length() - 1)
        return compute_node_hash(
            compute_range_root(rows, start, middle), compute_range_root(rows, middle, end)
        )
    level = length.bit_length() - 1
    stored = level - level % STORED_LEVELS
    count = 1 << level - stored
    first = start >> stored
    hashes = read_leaves(rows, first, count) if stored == 0 else _read_interior(rows, stored, first, count)
    while len(hashes) > 1:
        pairs = zip(hashes[0::2], hashes[1::2], strict=True)
        hashes = [compute_node_hash(left, right) for left, right in pairs]
    return Digest(hashes[0])


def _read_interior(rows: Rows, level: int, first: int, count: int) -> list[bytes]:
    hashes = []
    for number in range(first, first + count):
        row = rows.get(compute_interior_key(level, number))
        if row is None:
            raise KeyError(f"history tree: node {number} of level {level} is not stored")
        hashes.append(row)
    return hashes


def read_leaves(rows: Rows, first: int, count: int) -> list[bytes]:
    """Leaf hashes `first` to `first + count`, from rows that each begin at some block's first leaf."""
    wanted = first.to_bytes(8, "big")
    begin = next(iter(rows.scan(LEAVES, start=wanted, is_reverse=True)), None)
    if begin is None:
        raise KeyError(f"history tree: leaf {first} is not stored")
    hashes: list[bytes] = []
    for key, row in rows.scan(LEAVES, start=begin[0][len(LEAVES) :]):
        number = int.from_bytes(key[len(LEAVES) :], "big")
        skip = max(0, first - number) * DIGEST_BYTES
        hashes += [row[at : at + DIGEST_BYTES] for at in range(skip, len(row), DIGEST_BYTES)]
        if len(hashes) >= count:
            return hashes[:count]
    raise KeyError(f"history tree: leaf {first + len(hashes)} is not stored")


def _compute_frontier_root(frontier: Sequence[bytes]) -> Digest:
    root = b""
    for node in frontier:
        if node:
            root = compute_node_hash(node, root) if root else node
    return Digest(root) if root else EMPTY_ROOT

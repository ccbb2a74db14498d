"""The history tree against the plain RFC 6962 construction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.merkle import (
    EMPTY_ROOT,
    compute_inclusion_path,
    compute_leaf_hash,
    compute_root,
    verify_inclusion,
)
from ledger.history_tree import HistoryTree, compute_path


class MemoryRows:
    """Rows in a dictionary, scanned in key order."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes = b"", is_reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.rows, reverse=is_reverse):
            inside = key <= prefix + start if is_reverse and start else key >= prefix + start
            if key.startswith(prefix) and inside:
                yield key, self.rows[key]


def leaves(count: int) -> list[bytes]:
    return [compute_leaf_hash(b"%d" % number) for number in range(count)]


def grow(sizes: list[int]) -> tuple[HistoryTree, MemoryRows, list[bytes]]:
    tree, rows, hashes = HistoryTree(), MemoryRows(), leaves(sum(sizes))
    for size in sizes:
        delta = tree.compute_delta(hashes[tree.size : tree.size + size])
        assert not set(rows.rows) & {key for key, _ in delta.rows}, "a stored row was written again"
        rows.rows.update(delta.rows)
        tree.apply(delta)
    return tree, rows, hashes


@given(st.lists(st.integers(0, 60), max_size=12))
def test_growing_by_blocks_gives_the_root_over_all_leaves(sizes: list[int]) -> None:
    tree, _, hashes = grow(sizes)
    assert (tree.size, tree.root) == (len(hashes), compute_root(hashes))


@given(st.lists(st.integers(1, 90), min_size=1, max_size=9), st.data())
def test_any_leaf_is_provable_at_any_earlier_size(sizes: list[int], data: st.DataObject) -> None:
    tree, rows, hashes = grow(sizes)
    size = data.draw(st.integers(1, tree.size))
    index = data.draw(st.integers(0, size - 1))
    assert compute_path(rows, index, size) == compute_inclusion_path(hashes[:size], index)


def test_paths_across_stored_interior_levels_are_right() -> None:
    tree, rows, hashes = grow([1, 255, 700, 256, 44, 900])
    for index, size in (
        (0, 2156),
        (255, 256),
        (256, 2156),
        (1023, 1024),
        (2155, 2156),
        (1500, 2001),
        (511, 513),
    ):
        path = compute_path(rows, index, size)
        verify_inclusion(
            leaf_hash=hashes[index], index=index, size=size, path=path, root=compute_root(hashes[:size])
        )
    assert sum(key[:1] == b"u" for key in rows.rows) == tree.size // 256


@pytest.mark.slow
def test_paths_over_two_stored_levels_are_right() -> None:
    _, rows, hashes = grow([65_000, 5_000])
    for index in (0, 65_535, 65_536, 69_999):
        assert compute_path(rows, index, 70_000) == compute_inclusion_path(hashes, index)
    assert sum(key[:2] == b"u\x10" for key in rows.rows) == 1


def test_an_empty_tree_has_the_empty_root_and_no_leaves() -> None:
    assert HistoryTree().root == EMPTY_ROOT
    with pytest.raises(IndexError):
        compute_path(MemoryRows(), 0, 0)


def test_a_delta_changes_nothing_until_it_is_applied_and_fits_one_size_only() -> None:
    tree = HistoryTree()
    first = tree.compute_delta(leaves(3))
    assert tree.size == 0
    tree.apply(first)
    with pytest.raises(ValueError, match="are committed"):
        tree.apply(first)


def test_a_frontier_that_does_not_make_the_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not make a tree"):
        HistoryTree(5, (b"x" * 32,))

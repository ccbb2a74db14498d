"""The state tree: independent of write order, equal to a tree built anew, provable in both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.merkle import compute_inclusion_path
from ledger.bucket_proofs import verify_bucket
from ledger.errors import ProofRefused
from ledger.state_tree import BucketProof, StateDelta, StateTree, compute_entry_hashes

KEYS = st.binary(min_size=1, max_size=3)
BLOCKS = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=12), max_size=6)


class Memory:
    """A tree with its bucket rows in a dictionary."""

    def __init__(self, buckets_log2: int = 4) -> None:
        self.tree = StateTree(buckets_log2)
        self.buckets: dict[int, bytes] = {}
        self.rows: dict[bytes, bytes] = {}

    def read(self, bucket: int) -> bytes:
        return self.buckets.get(bucket, b"")

    def compute(self, writes: dict[bytes, bytes | None]) -> StateDelta:
        return self.tree.compute_delta(writes, self.read)

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        delta = self.compute(writes)
        self.tree.apply(delta)
        self.buckets.update(delta.buckets)
        for key, row in writes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row

    def prove(self, key: bytes) -> BucketProof:
        return self.tree.prove(key, self.read)

    def verify(self, proof: BucketProof, key: bytes, row: bytes | None) -> None:
        verify_bucket(proof, state_key=key, row=row, root=self.tree.root, buckets_log2=self.tree.buckets_log2)


@given(BLOCKS)
def test_the_root_depends_on_the_rows_only_not_on_how_they_came(blocks: list[Any]) -> None:
    memory, fresh = Memory(), Memory()
    for writes in blocks:
        memory.commit(writes)
    fresh.commit(dict(sorted(memory.rows.items(), reverse=True)))
    assert fresh.tree.root == memory.tree.root


@given(BLOCKS)
def test_a_tree_loaded_from_bucket_rows_is_the_tree_that_wrote_them(blocks: list[Any]) -> None:
    memory, loaded = Memory(8), StateTree(8)
    for writes in blocks:
        memory.commit(writes)
    loaded.load((bucket, row) for bucket, row in sorted(memory.buckets.items()) if row)
    assert loaded.root == memory.tree.root
    assert loaded._levels == memory.tree._levels


@given(BLOCKS, st.lists(KEYS, max_size=8))
def test_every_row_is_provably_present_and_every_other_provably_absent(
    blocks: list[Any], others: list[bytes]
) -> None:
    memory = Memory()
    for writes in blocks:
        memory.commit(writes)
    for key in {*memory.rows, *others}:
        row = memory.rows.get(key)
        proof = memory.prove(key)
        memory.verify(proof, key, row)
        with pytest.raises(ProofRefused):
            memory.verify(proof, key, b"another row")
        if row is not None:
            with pytest.raises(ProofRefused):
                memory.verify(proof, key, None)


def test_a_delta_changes_nothing_until_it_is_applied() -> None:
    memory = Memory()
    memory.commit({b"a": b"1"})
    before = memory.tree.root
    delta = memory.compute({b"a": b"2", b"b": b"3"})
    assert memory.tree.root == before != delta.root
    memory.tree.apply(delta)
    assert memory.tree.root == delta.root


def test_a_delta_on_another_parent_is_refused() -> None:
    memory = Memory()
    stale = memory.compute({b"a": b"1"})
    memory.commit({b"b": b"1"})
    with pytest.raises(ValueError, match="is committed"):
        memory.tree.apply(stale)


def test_writing_and_deleting_again_leads_back_to_the_same_root() -> None:
    memory = Memory()
    empty = memory.tree.root
    memory.commit({b"%d" % number: b"row" for number in range(40)})
    memory.commit({b"%d" % number: None for number in range(40)})
    assert memory.tree.root == empty
    assert not any(memory.buckets.values())


def test_a_block_without_writes_keeps_the_root() -> None:
    memory = Memory()
    memory.commit({b"a": b"1"})
    assert memory.compute({}).root == memory.tree.root
    assert memory.compute({b"a": b"1"}).root == memory.tree.root


def crowded() -> Memory:
    """Forty rows over sixteen buckets, so that buckets hold several entries."""
    memory = Memory()
    memory.commit({b"key %d" % number: b"row %d" % number for number in range(40)})
    return memory


def find_absent(memory: Memory, *, neighbours: int) -> tuple[bytes, BucketProof]:
    for number in range(10_000):
        key = b"absent %d" % number
        proof = memory.prove(key)
        if len(proof.entries) == neighbours and proof.count > 3:
            return key, proof
    raise AssertionError("no such key")


def test_neighbours_that_are_not_next_to_each_other_do_not_show_absence() -> None:
    memory = crowded()
    key, row = next((key, row) for key, row in memory.rows.items() if memory.prove(key).entries[0][0] > 0)
    present = memory.prove(key)
    memory.verify(present, key, row)
    index = present.entries[0][0]
    if index + 1 == present.count:
        pytest.fail("choose a key in the middle of its bucket")
    # The honest entries on both sides of a present key, shown as if nothing lay between them.
    bucket = next(
        data
        for data in memory.buckets.values()
        if present.entries[0][1] in [data[at : at + 64] for at in range(0, len(data), 64)]
    )
    hashes = compute_entry_hashes(bucket)
    entries = tuple(
        (at, bucket[at * 64 : at * 64 + 64], compute_inclusion_path(hashes, at))
        for at in (index - 1, index + 1)
    )
    with pytest.raises(ProofRefused, match="not neighbours"):
        memory.verify(replace(present, entries=entries), key, None)


@pytest.mark.parametrize("dropped", [0, 1])
def test_absence_needs_both_neighbours(dropped: int) -> None:
    memory = crowded()
    key, proof = find_absent(memory, neighbours=2)
    memory.verify(proof, key, None)
    with pytest.raises(ProofRefused, match="not neighbours"):
        memory.verify(replace(proof, entries=(proof.entries[dropped],)), key, None)


def test_a_bucket_cannot_be_passed_off_as_empty_or_of_another_count() -> None:
    memory = crowded()
    key, proof = find_absent(memory, neighbours=2)
    with pytest.raises(ProofRefused):
        memory.verify(replace(proof, count=0, entries=()), key, None)
    with pytest.raises(ProofRefused):
        memory.verify(replace(proof, entries=()), key, None)
    with pytest.raises(ProofRefused):
        memory.verify(replace(proof, count=proof.count + 1), key, None)


def test_a_proof_of_one_bucket_does_not_serve_for_another() -> None:
    memory = crowded()
    _, proof = find_absent(memory, neighbours=2)
    for number in range(200):
        other = b"other %d" % number
        if memory.prove(other).siblings != proof.siblings and other not in memory.rows:
            with pytest.raises(ProofRefused):
                memory.verify(proof, other, None)
            return
    raise AssertionError("no key of another bucket")


def test_every_altered_byte_of_a_proof_is_caught() -> None:
    memory = crowded()
    key, proof = find_absent(memory, neighbours=2)
    for level, siblings in enumerate(proof.siblings):
        for at in range(0, len(siblings), 37):
            altered = bytearray(siblings)
            altered[at] ^= 1
            changed = (*proof.siblings[:level], bytes(altered), *proof.siblings[level + 1 :])
            with pytest.raises(ProofRefused):
                memory.verify(replace(proof, siblings=changed), key, None)
    for place, (index, entry, path) in enumerate(proof.entries):
        for at in range(64):
            altered = bytearray(entry)
            altered[at] ^= 0x80
            entries = list(proof.entries)
            entries[place] = (index, bytes(altered), path)
            with pytest.raises(ProofRefused):
                memory.verify(replace(proof, entries=tuple(entries)), key, None)


@pytest.mark.parametrize("bits", [0, 3, 5, 28])
def test_a_number_of_buckets_that_makes_no_16_ary_tree_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        StateTree(bits)


@settings(max_examples=5)
@given(st.integers(0, 2**32))
def test_trees_of_all_sizes_prove_alike(number: int) -> None:
    for bits in (4, 8, 12):
        memory = Memory(bits)
        memory.commit({b"%d" % (number + step): b"x" for step in range(9)})
        memory.verify(memory.prove(b"%d" % number), b"%d" % number, b"x")
        memory.verify(memory.prove(b"none"), b"none", None)
        assert len(memory.prove(b"none").siblings) == bits // 4

"""Quorum arithmetic, and who is primary when."""

from __future__ import annotations

import pytest

from consensus.quorum import Quorum
from consensus.replica_set import Member, ReplicaSet


@pytest.mark.parametrize("count", range(1, 41))
def test_v2_two_quorums_share_an_honest_replica_and_the_honest_make_one(count: int) -> None:
    quorum = Quorum(count)
    assert 2 * quorum.size - count >= quorum.faults_max + 1
    assert quorum.size <= count - quorum.faults_max


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (10, 7)])
def test_v2_quorum_sizes_where_two_f_plus_one_would_be_wrong(count: int, size: int) -> None:
    assert Quorum(count).size == size


def test_the_turn_passes_on_with_every_view_and_every_so_many_blocks() -> None:
    replica_set = ReplicaSet(0, tuple(Member(r, bytes([r]) * 32, bytes(16)) for r in range(4)))
    assert [replica_set.compute_primary(1, view, 100) for view in range(5)] == [0, 1, 2, 3, 0]
    assert [replica_set.compute_primary(height, 0, 2) for height in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]

"""The fair queue: every institution has its part of each block, whatever the others send."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.replica_set import ReplicaId
from ledger.fair_queue import FairQueue
from ledger.transaction import SignedTransaction
from tests.ledger.unsigned import make_unsigned, name_institution

LARGE = 1_000_000_000
INSTITUTIONS_MAX = 6
SMALL_BYTES = make_unsigned(0, 0).size_bytes

arrivals = st.lists(
    st.tuples(st.integers(0, INSTITUTIONS_MAX - 1), st.integers(0, 2_000)), max_size=60
)  # Institution and size of what comes, in order.


def fill(
    sent: Sequence[tuple[int, int]], *, part_bytes_max: int = LARGE
) -> tuple[FairQueue, list[tuple[int, SignedTransaction]]]:
    """The queue, and what was put into it, in order, with its institution."""
    queue = FairQueue(part_bytes_max)
    put = []
    for number, (institution, argument_bytes) in enumerate(sent):
        transaction = make_unsigned(institution, number, argument_bytes=argument_bytes)
        queue.put(transaction, name_institution(institution))
        put.append((institution, transaction))
    return queue, put


def get_institution(transaction: SignedTransaction) -> int:
    return transaction.body.sender[0]


def test_a_transaction_of_another_institution_does_not_wait_behind_a_flood() -> None:
    queue, put = fill([(1, 0)] * 50 + [(2, 0)] * 2)
    block = queue.take(5, LARGE)
    assert [get_institution(item) for item in block] == [1, 2, 1, 2, 1]
    assert block[0].signed_hash == queue.oldest == put[0][1].signed_hash


def test_shares_are_of_bytes_not_of_transactions() -> None:
    queue, _ = fill([(1, 900)] * 20 + [(2, 0)] * 60)
    sizes = dict.fromkeys((1, 2), 0)
    for item in queue.take(40, LARGE):
        sizes[get_institution(item)] += item.size_bytes
    assert abs(sizes[1] - sizes[2]) <= 900 + SMALL_BYTES


def test_d1_a_flood_does_not_fill_the_room_that_others_leave_in_a_block() -> None:
    """Its blocks would take so long that whoever sends little and often would get nowhere."""
    queue, _ = fill([(1, 0)] * 50 + [(2, 0)] * 2, part_bytes_max=10 * SMALL_BYTES)
    block = [get_institution(item) for item in queue.take(100, LARGE)]
    assert (block.count(1), block.count(2)) == (10, 2)


@given(sent=arrivals, part_bytes_max=st.integers(0, 5_000))
def test_each_institution_has_its_part_of_a_block_and_one_transaction_at_least(
    sent: list[tuple[int, int]], part_bytes_max: int
) -> None:
    queue, put = fill(sent, part_bytes_max=part_bytes_max)
    block = queue.take(LARGE, LARGE)
    for institution in range(INSTITUTIONS_MAX):
        own = [item for who, item in put if who == institution]
        held = [item for item in block if get_institution(item) == institution]
        assert held == own[: len(held)]
        assert len(held) <= 1 or sum(item.size_bytes for item in held) <= part_bytes_max
        if held != own:
            following = own[len(held)]
            assert held
            assert sum(item.size_bytes for item in (*held, following)) > part_bytes_max


@given(sent=arrivals)
def test_nothing_is_lost_nothing_doubled_and_the_count_is_right(sent: list[tuple[int, int]]) -> None:
    queue, put = fill(sent)
    taken = queue.take(LARGE, LARGE)
    hashes = [item.signed_hash for item in taken]
    assert sorted(hashes) == sorted(item.signed_hash for _, item in put)
    assert [item.signed_hash for item in queue] == [item.signed_hash for _, item in put]
    for left in range(len(taken), 0, -1):
        assert len(queue) == left
        assert queue.size_bytes == sum(item.size_bytes for item in queue)
        removed = queue.get(hashes.pop())
        assert removed is not None
        count, size = queue.get_used(name_institution(get_institution(removed)))
        queue.remove(removed.signed_hash)
        assert removed.signed_hash not in queue
        after = queue.get_used(name_institution(get_institution(removed)))
        assert after == (count - 1, size - removed.size_bytes)
    assert (len(queue), queue.size_bytes, queue.oldest, queue._shares) == (0, 0, None, {})


@given(sent=arrivals, count_max=st.integers(0, 30), bytes_max=st.integers(0, 20_000))
def test_a_block_keeps_its_bounds_and_the_order_within_an_institution(
    sent: list[tuple[int, int]], count_max: int, bytes_max: int
) -> None:
    queue, put = fill(sent)
    block = queue.take(count_max, bytes_max)
    assert len(block) <= count_max
    assert sum(item.size_bytes for item in block) <= bytes_max
    assert block == queue.take(LARGE, LARGE)[: len(block)], "a smaller block is the beginning of a larger one"
    for institution in range(INSTITUTIONS_MAX):
        own = [item for who, item in put if who == institution]
        held = [item for item in block if get_institution(item) == institution]
        assert held == own[: len(held)]


@given(sent=arrivals, count_max=st.integers(1, 30))
def test_who_has_more_waiting_has_no_more_of_the_block_but_for_one_transaction(
    sent: list[tuple[int, int]], count_max: int
) -> None:
    """Max-min fairness: one that gave all it had may have less, and nobody else."""
    queue, put = fill(sent)
    block = queue.take(count_max, LARGE)
    held = dict.fromkeys(range(INSTITUTIONS_MAX), 0)
    last = dict.fromkeys(range(INSTITUTIONS_MAX), 0)
    for item in block:
        held[get_institution(item)] += item.size_bytes
        last[get_institution(item)] = item.size_bytes
    unserved = {who for who, item in put if item not in block}
    for who in unserved:
        for other in range(INSTITUTIONS_MAX):
            assert held[other] - last[other] <= held[who]


@given(sent=arrivals, count_max=st.integers(1, 30))
def test_d1_the_first_transactions_of_all_institutions_are_in_the_next_blocks(
    sent: list[tuple[int, int]], count_max: int
) -> None:
    """With k institutions and m places in a block nobody's first one waits for more than k / m blocks, though
    the others send as much again as each block held."""
    queue, put = fill(sent)
    firsts: dict[int, SignedTransaction] = {}
    for who, item in put:
        firsts.setdefault(who, item)
    blocks_max = -(-len(firsts) // count_max)
    number = len(put)
    for _ in range(blocks_max):
        for item in queue.take(count_max, LARGE):
            queue.remove(item.signed_hash)
            queue.put(make_unsigned(get_institution(item), number), name_institution(get_institution(item)))
            number += 1
    assert not [item for item in firsts.values() if item.signed_hash in queue]


@given(sent=arrivals.filter(bool), removed=st.sets(st.integers(0, 59)))
def test_l3_the_oldest_of_all_is_in_the_next_block_that_has_places_for_the_first_ones(
    sent: list[tuple[int, int]], removed: set[int]
) -> None:
    """Or the view timer, which belongs to it, would run out under a primary that does its work."""
    queue, put = fill(sent)
    for number in sorted(removed & set(range(len(put) - 1))):
        queue.remove(put[number][1].signed_hash)
    block = queue.take(len(queue._shares), LARGE)
    assert queue.oldest in [item.signed_hash for item in block]
    assert len({get_institution(item) for item in block}) == len(block)


def test_l3_what_members_name_goes_before_all_shares_and_counts_for_them() -> None:
    queue, put = fill([(1, 0)] * 50 + [(2, 0)] * 50, part_bytes_max=10 * SMALL_BYTES)
    queue.put_first(put[40][1].signed_hash, ReplicaId(8))
    queue.put_first(put[49][1].signed_hash, ReplicaId(7))
    block = queue.take(100, LARGE)
    assert block[:2] == [put[40][1], put[49][1]]
    assert [get_institution(item) for item in block[2:6]] == [2, 2, 1, 2]
    assert [get_institution(item) for item in block].count(1) == 10
    assert queue.take(1, LARGE) == block[:1]
    assert queue.has_first(ReplicaId(7))
    queue.remove(put[49][1].signed_hash)
    assert not queue.has_first(ReplicaId(7))
    assert queue.take(100, LARGE)[:2] == [put[40][1], put[50][1]]


@given(sent=arrivals, named=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 59)), max_size=8))
def test_l3_whatever_is_named_nothing_is_lost_and_first_ones_have_their_place(
    sent: list[tuple[int, int]], named: list[tuple[int, int]]
) -> None:
    queue, put = fill(sent, part_bytes_max=1)
    for replica, number in named:
        if number < len(put):
            queue.put_first(put[number][1].signed_hash, ReplicaId(replica))
    first = {replica: put[number][1].signed_hash for replica, number in named if number < len(put)}
    block = [item.signed_hash for item in queue.take(LARGE, LARGE)]
    assert len(set(block)) == len(block)
    assert set(block[: len(set(first.values()))]) == set(first.values())
    assert queue.oldest is None or queue.oldest in block
    assert {get_institution(item) for _, item in put if item.signed_hash in block} == {who for who, _ in put}


def test_what_does_not_wait_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        FairQueue(LARGE).remove(bytes(32))

"""The filter of committed ids never forgets one that still matters."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.committed_ids import CommittedIds

WINDOW_MS = 1_000


def make_id(number: int) -> bytes:
    return sha256(b"transaction %d" % number).digest()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 5)), min_size=1, max_size=25))
def test_every_id_within_the_window_is_remembered_whatever_the_pace_of_blocks(
    blocks: list[tuple[int, int]],
) -> None:
    ids = CommittedIds(window_ms=WINDOW_MS, complete_from_ms=0)
    time_ms, number, committed = 5_000, 0, []
    for passed_ms, count in blocks:
        time_ms += passed_ms
        block = [make_id(number + offset) for offset in range(count)]
        number += count
        committed += [(time_ms, transaction_id) for transaction_id in block]
        ids.add(block, time_ms=time_ms)
        for committed_ms, transaction_id in committed:
            if time_ms - committed_ms <= WINDOW_MS:
                assert ids.may_hold(transaction_id)


def test_new_ids_are_nearly_all_told_apart() -> None:
    ids = CommittedIds(window_ms=WINDOW_MS, complete_from_ms=0)
    ids.add([make_id(number) for number in range(20_000)], time_ms=5_000)
    assert sum(ids.may_hold(make_id(number)) for number in range(20_000, 40_000)) < 20


def test_what_is_older_than_two_windows_is_forgotten_so_memory_stays_as_it_is() -> None:
    ids = CommittedIds(window_ms=WINDOW_MS, complete_from_ms=0)
    ids.add([make_id(0)], time_ms=5_000)
    ids.add([make_id(1)], time_ms=6_500)
    ids.add([make_id(2)], time_ms=8_000)
    assert not ids.may_hold(make_id(0))
    assert ids.may_hold(make_id(1))
    assert ids.may_hold(make_id(2))


def test_after_a_restart_it_answers_only_once_it_has_seen_a_whole_window() -> None:
    ids = CommittedIds(window_ms=WINDOW_MS, complete_from_ms=50_000)
    ids.add([], time_ms=50_900)
    assert ids.may_hold(make_id(7))
    ids.add([], time_ms=51_000)
    assert not ids.may_hold(make_id(7))

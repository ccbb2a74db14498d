"""The view timer belongs to the oldest pending transaction."""

from __future__ import annotations

from consensus.patience import Patience
from consensus.settings import ReplicaSettings

OLDEST, OTHER = bytes(32), bytes(31) + b"\x01"


def start() -> Patience:
    patience = Patience(ReplicaSettings())
    patience.set_oldest(OLDEST)
    patience.run(0)
    return patience


def test_l3_being_told_of_the_same_oldest_again_does_not_start_the_timer_anew() -> None:
    patience = start()
    patience.set_oldest(OLDEST)
    patience.run(1_999)
    assert not patience.is_exhausted(1_999)
    assert patience.is_exhausted(2_000)


def test_another_oldest_starts_the_timer_anew() -> None:
    patience = start()
    patience.set_oldest(OTHER)
    patience.run(1_999)
    assert not patience.is_exhausted(3_998)
    assert patience.is_exhausted(3_999)


def run_with_oldest_that_keep_changing(patience: Patience, end_ms: int, *, commits: bool) -> int | None:
    """Another oldest transaction every 1.9 seconds; when the timer ran out, if it did."""
    for now_ms in range(0, end_ms, 100):
        if now_ms % 1_900 == 0:
            if commits:
                patience.note_commit(is_empty=False)
            patience.set_oldest(now_ms.to_bytes(32, "big"))
        patience.run(now_ms)
        if patience.is_exhausted(now_ms):
            return now_ms
    return None


def test_l3_a_primary_that_lets_one_transaction_after_the_other_expire_is_replaced() -> None:
    assert run_with_oldest_that_keep_changing(start(), 60_000, commits=False) == 10_000
    assert run_with_oldest_that_keep_changing(start(), 60_000, commits=True) is None


def test_l2_waiting_ends_when_nothing_is_pending() -> None:
    patience = start()
    for now_ms in range(1_000, 30_000, 1_000):
        patience.set_oldest(None)
        patience.stop()  # As the replica does when it has nothing to wait for.
        patience.set_oldest(now_ms.to_bytes(32, "big"))
        patience.run(now_ms)
        assert not patience.is_exhausted(now_ms + 999)


def test_half_of_the_timeout_is_told_once() -> None:
    patience = start()
    assert [patience.take_half(now_ms) for now_ms in (999, 1_000, 1_001)] == [False, True, False]


def test_l1_only_a_block_with_transactions_after_which_another_is_the_oldest_is_progress() -> None:
    patience = start()
    patience.failed_views = 3
    assert patience.timeout_ms == 10_000
    patience.note_commit(is_empty=True)
    patience.set_oldest(OTHER)
    assert patience.failed_views == 3
    patience.note_commit(is_empty=False)
    assert (patience.failed_views, patience.timeout_ms) == (0, 2_000)
    patience.failed_views = 3
    patience.note_commit(is_empty=False)
    assert patience.failed_views == 3
    patience.set_oldest(None)
    assert patience.failed_views == 0

"""A primary that is slow beside the others is replaced, and nobody else (rule L3)."""

from __future__ import annotations

from consensus.primary_watch import BLOCKS, FACTOR, PrimaryWatch
from consensus.settings import ReplicaSettings

SETTINGS = ReplicaSettings(view_timeout_ms=2_000)
QUARTER_MS = SETTINGS.view_timeout_ms // 4
SLOW, OTHERS = 0, (1, 2, 3)


def make_watch(*, usual_ms: int | None = 100) -> PrimaryWatch:
    """Three others have each led BLOCKS blocks that were waited for `usual_ms`; with None nobody has led."""
    watch = PrimaryWatch(SETTINGS)
    if usual_ms is not None:
        for other in OTHERS:
            lead(watch, other, *[usual_ms] * BLOCKS)
    return watch


def find_suspect(watch: PrimaryWatch) -> int | None:
    return watch.suspect


def lead(watch: PrimaryWatch, primary: int, *waits_ms: int) -> None:
    for wait_ms in waits_ms:
        watch.run(10_000)
        watch.note_block(primary, 10_000 + wait_ms)
        watch.stop()


def test_l3_a_primary_just_below_the_timeout_is_complained_of_after_so_many_blocks() -> None:
    watch = make_watch()
    for _ in range(BLOCKS - 1):
        lead(watch, SLOW, 1_800)
        assert find_suspect(watch) is None
    lead(watch, SLOW, 1_800)
    assert find_suspect(watch) == SLOW
    for other in OTHERS:
        lead(watch, other, 100)
        assert find_suspect(watch) is None


def test_l3_in_its_next_turn_one_more_slow_block_is_enough() -> None:
    watch = make_watch()
    lead(watch, SLOW, *[1_800] * BLOCKS)
    assert find_suspect(watch) == SLOW
    for other in OTHERS:
        lead(watch, other, 100)
    assert find_suspect(watch) is None, "the turn is others' now"
    lead(watch, SLOW, 1_800)
    assert find_suspect(watch) == SLOW


def test_l3_one_quick_block_clears_a_primary() -> None:
    watch = make_watch()
    lead(watch, SLOW, *[1_800] * (BLOCKS - 1), 100)
    assert find_suspect(watch) is None
    lead(watch, SLOW, *[1_800] * (BLOCKS - 1))
    assert find_suspect(watch) is None
    lead(watch, SLOW, 1_800)
    assert find_suspect(watch) == SLOW


def test_l2_nobody_is_complained_of_below_a_quarter_of_the_timeout() -> None:
    watch = make_watch(usual_ms=1)
    lead(watch, SLOW, *[QUARTER_MS - 1] * BLOCKS)
    assert find_suspect(watch) is None
    lead(watch, SLOW, *[QUARTER_MS] * BLOCKS)
    assert find_suspect(watch) == SLOW


def test_l2_where_all_blocks_take_long_nobody_is_complained_of() -> None:
    watch = make_watch(usual_ms=700)
    lead(watch, SLOW, *[int(FACTOR * 700) - 1] * BLOCKS)
    assert find_suspect(watch) is None


def test_l3_a_primary_beside_which_no_other_is_known_has_half_of_the_timeout() -> None:
    watch = make_watch(usual_ms=None)
    lead(watch, SLOW, *[2 * QUARTER_MS - 1] * BLOCKS)
    assert find_suspect(watch) is None
    lead(watch, SLOW, *[2 * QUARTER_MS] * BLOCKS)
    assert find_suspect(watch) == SLOW


def test_l3_one_other_that_is_slow_as_well_does_not_shift_what_is_usual() -> None:
    watch = make_watch()
    lead(watch, 3, *[1_800] * BLOCKS)
    lead(watch, SLOW, *[1_800] * BLOCKS)
    assert find_suspect(watch) == SLOW
    lead(watch, 3, 1_800)
    assert find_suspect(watch) == 3


def test_l2_time_in_which_nothing_was_waited_for_is_not_counted() -> None:
    watch = make_watch()
    for _ in range(BLOCKS):
        watch.run(0)
        watch.stop()
        watch.note_block(SLOW, 60_000)
    assert find_suspect(watch) is None

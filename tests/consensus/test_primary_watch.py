"""A primary that is slow beside the others is replaced, and nobody else (rule L3)."""

from __future__ import annotations

import pytest

from consensus.primary_watch import BLOCKS, FACTOR, PrimaryWatch
from consensus.settings import ReplicaSettings

SETTINGS = ReplicaSettings(view_timeout_ms=2_000)
QUARTER_MS = SETTINGS.view_timeout_ms // 4
SLOW, OTHERS = 0, (1, 2, 3)
TURN = 100
"""Blocks of one turn of a primary, as in the daemon."""


def make_watch(*, usual_ms: int | None = 100) -> PrimaryWatch:
    """Three others have each led BLOCKS blocks that were waited for `usual_ms`; with None nobody has led."""
    watch = PrimaryWatch(SETTINGS)
    if usual_ms is not None:
        for other in OTHERS:
            lead(watch, other, *[usual_ms] * BLOCKS)
    return watch


def find_suspect(watch: PrimaryWatch) -> int | None:
    return watch.suspect


def lead(watch: PrimaryWatch, primary: int, *waits_ms: int) -> int | None:
    """Blocks of a primary, until it is suspected: after how many, or None."""
    for count, wait_ms in enumerate(waits_ms, start=1):
        watch.run(10_000)
        watch.note_block(primary, 10_000 + wait_ms)
        watch.stop()
        if find_suspect(watch) == primary:
            return count
    return None


@pytest.mark.parametrize(
    ("pattern_ms", "blocks"),
    [((1_900,), 5), ((1_900, 1_900, 1_900, 10), 6), ((1_900, 100, 100, 100), 13), ((1_900, 1_900, 100), 7)],
)
def test_l3_a_primary_that_is_slow_in_the_mean_is_found_out_whatever_it_mixes(
    pattern_ms: tuple[int, ...], blocks: int
) -> None:
    assert lead(make_watch(), SLOW, *pattern_ms * TURN) == blocks


def test_l3_in_its_next_turn_one_more_slow_block_is_enough() -> None:
    watch = make_watch()
    assert lead(watch, SLOW, *[1_900] * TURN) == 5
    for other in OTHERS:
        lead(watch, other, *[100] * TURN)
    assert find_suspect(watch) is None, "the turn is others' now"
    assert lead(watch, SLOW, *[1_900] * TURN) == 1


def test_l3_a_primary_that_has_mended_its_ways_is_cleared() -> None:
    watch = make_watch()
    assert lead(watch, SLOW, *[1_900] * TURN) == 5
    assert lead(watch, SLOW, *[100] * TURN) is None
    assert lead(watch, SLOW, 1_900, *[100] * TURN) is None


@pytest.mark.parametrize("pattern_ms", [(QUARTER_MS - 1,), (2_000, *[10] * (BLOCKS - 1))])
def test_l2_nobody_is_suspected_below_a_quarter_of_the_timeout_or_for_one_hiccup(
    pattern_ms: tuple[int, ...],
) -> None:
    assert lead(make_watch(usual_ms=1), SLOW, *pattern_ms * TURN) is None


def test_l2_no_single_wait_counts_for_more_than_the_timeout() -> None:
    assert lead(make_watch(), SLOW, 60_000, *[10] * TURN) is None
    assert lead(make_watch(), SLOW, 60_000, 60_000, 60_000) is None


def test_l2_where_all_blocks_take_long_nobody_is_suspected() -> None:
    assert lead(make_watch(usual_ms=700), SLOW, *[int(FACTOR * 700) - 1] * TURN) is None


def test_l3_a_primary_beside_which_no_other_is_known_has_half_of_the_timeout() -> None:
    assert lead(make_watch(usual_ms=None), SLOW, *[2 * QUARTER_MS - 1] * TURN) is None
    assert lead(make_watch(usual_ms=None), SLOW, *[2 * QUARTER_MS] * TURN) == BLOCKS


def test_l3_one_other_that_is_slow_as_well_does_not_shift_what_is_usual() -> None:
    watch = make_watch()
    assert lead(watch, 3, *[1_900] * TURN) == 4
    watch.suspect = None
    assert lead(watch, SLOW, *[1_900] * TURN) == 5


def test_l2_time_in_which_nothing_was_waited_for_is_not_counted() -> None:
    watch = make_watch()
    for _ in range(BLOCKS):
        watch.run(0)
        watch.stop()
        watch.note_block(SLOW, 60_000)
    assert find_suspect(watch) is None


def test_l3_who_was_slow_is_known_to_the_next_replica_set_and_who_left_is_not() -> None:
    watch = make_watch()
    assert lead(watch, SLOW, *[1_900] * TURN) == 5
    watch.retain((SLOW, 1, 2, 9))
    assert lead(watch, SLOW, 1_900) == 1
    watch.retain((1, 2, 9))
    assert lead(watch, SLOW, 1_900) is None

"""A clock that is off is told apart from old blocks: after a pause, at a start, while catching up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing

from daemon.clock_watch import LATE_BLOCKS_MIN, LATE_SPAN_MS_MIN, LINE_INTERVAL_MS, ClockWatch

TOLERANCE_MS = 2_000
DELAY_MS = 1_000
DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS


class World:
    """A node whose head is of the present, and two clocks of which one can be set."""

    def __init__(self, shift_ms: int = 0) -> None:
        self.now_ms = NOW_MS
        self.shift_ms = shift_ms
        self.certified_height = 0
        self.is_syncing = False
        self.head = SimpleNamespace(header=SimpleNamespace(height=0, time_ms=NOW_MS))
        chain: Any = SimpleNamespace(
            genesis=SimpleNamespace(parameters=SimpleNamespace(clock_tolerance_ms=TOLERANCE_MS)),
            head=self.head,
        )
        with structlog.testing.capture_logs() as self.lines:
            self.watch = ClockWatch(
                chain,
                delay_ms_max=DELAY_MS,
                get_certified_height=lambda: self.certified_height,
                is_syncing=lambda: self.is_syncing,
                clock=lambda: (self.now_ms, self.now_ms + self.shift_ms),
            )

    def pass_time(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    def add_block(self, *, age_ms: int = 0) -> None:
        """A block that was proposed so long ago becomes final here."""
        self.head.header.height += 1
        self.head.header.time_ms = self.now_ms - age_ms
        block: Any = SimpleNamespace(header=self.head.header)
        with structlog.testing.capture_logs() as lines:
            self.watch.on_block(block)
        self.lines += lines

    def add_blocks(self, count: int, *, interval_ms: int, age_ms: int = 0) -> None:
        for _ in range(count):
            self.pass_time(interval_ms)
            self.add_block(age_ms=age_ms)


@pytest.mark.parametrize("shift_ms", [-TOLERANCE_MS, -500, 0, 500, TOLERANCE_MS + DELAY_MS])
def test_a_clock_that_is_off_by_no_more_than_is_tolerated_is_right(shift_ms: int) -> None:
    world = World(shift_ms)
    world.add_blocks(100, interval_ms=1_000)
    assert world.watch.offset_ms == 0
    assert world.lines == []


def test_rule_E3_a_clock_that_is_behind_shows_at_once_and_again_when_it_is_right() -> None:
    world = World(-DAY_MS)
    assert world.watch.offset_ms == -DAY_MS
    world.add_blocks(3, interval_ms=1_000)
    assert world.watch.offset_ms == -DAY_MS
    world.shift_ms = 0
    assert world.watch.offset_ms == 0


def test_rule_E3_a_clock_that_is_ahead_shows_once_old_blocks_have_kept_coming() -> None:
    world = World(DAY_MS)
    for _ in range(LATE_SPAN_MS_MIN // 5_000):
        world.add_blocks(1, interval_ms=5_000)
        assert world.watch.offset_ms == 0
    world.add_blocks(1, interval_ms=5_000)
    assert world.watch.offset_ms == DAY_MS
    world.shift_ms = 0
    assert world.watch.offset_ms == 0, "even before a block comes"


def test_a_few_old_blocks_after_a_pause_do_not_make_a_clock_that_is_ahead() -> None:
    """What was proposed before the pause comes once more, then blocks of the present."""
    world = World()
    for _ in range(3):
        world.pass_time(3_600_000)
        world.add_blocks(LATE_BLOCKS_MIN - 1, interval_ms=LATE_SPAN_MS_MIN, age_ms=3_600_000)
        assert world.watch.offset_ms == 0
        world.add_blocks(1, interval_ms=1_000)
    assert world.lines == []


def test_many_old_blocks_at_once_do_not_make_a_clock_that_is_ahead() -> None:
    world = World()
    world.add_blocks(1_000, interval_ms=10, age_ms=DAY_MS)
    assert world.watch.offset_ms == 0


def test_what_a_node_catches_up_with_says_nothing_of_its_clock() -> None:
    world = World()
    world.certified_height = 10_000
    world.add_blocks(9_999, interval_ms=1_000, age_ms=DAY_MS)
    assert world.watch.offset_ms == 0
    assert world.lines == []


def test_rule_E3_what_is_fetched_from_a_later_epoch_says_nothing_of_its_clock() -> None:
    """No certificate of it can be verified here, so nothing is known to be final above the head."""
    world = World()
    world.is_syncing = True
    for _ in range(1_000):
        world.certified_height = world.head.header.height
        world.add_blocks(1, interval_ms=1_000, age_ms=7 * DAY_MS)
    assert world.watch.offset_ms == 0
    assert world.lines == []


def test_rule_E3_a_clock_that_is_ahead_shows_where_each_block_is_fetched_by_its_certificate() -> None:
    world = World(DAY_MS)
    world.is_syncing = True
    for _ in range(1 + LATE_SPAN_MS_MIN // 5_000):
        world.certified_height = world.head.header.height + 1
        world.add_blocks(1, interval_ms=5_000)
    assert world.watch.offset_ms == DAY_MS


def test_the_log_says_it_in_one_line_and_again_after_a_while_or_on_the_other_side() -> None:
    world = World(-DAY_MS)
    world.add_blocks(10, interval_ms=LINE_INTERVAL_MS // 20)
    assert [(line["event"], line["log_level"]) for line in world.lines] == [("clock is off", "warning")]
    assert "this node's clock is 86400 s behind" in world.lines[0]["reason"]
    world.add_blocks(10, interval_ms=LINE_INTERVAL_MS // 20)
    assert len(world.lines) == 2
    world.shift_ms = DAY_MS
    world.add_blocks(LATE_BLOCKS_MIN, interval_ms=LATE_SPAN_MS_MIN)
    assert len(world.lines) == 3
    assert "this node's clock is 86400 s ahead" in world.lines[2]["reason"]

"""Finds out whether this node's clock is off, by the times of the blocks that arrive (rule E3).

A clock that is behind shows at once: no block is of a later time than its proposer's clock, within the
tolerance. A clock that is ahead looks like a ledger that has paused, or like blocks that this node is only
now catching up with. So it counts as ahead only once blocks, each the newest that is known to be final, have
kept coming for a while and every one was old: a ledger that goes on soon brings one of the present. Where a
node catches up with a later epoch it knows of nothing final above its head, since it cannot verify it; so
what block sync brings counts only when it is the very block that a certificate was known of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from consensus.driver import Clock, read_clock
from ledger.chain import Chain
from ledger.speculation import CommittedBlock
from network.readiness import describe_clock

LATE_BLOCKS_MIN: Final = 5
"""So many in a row make a clock that is ahead."""
LATE_SPAN_MS_MIN: Final = 30_000
"""And from the first to the last of them so long must have passed, on the clock that never goes back."""
LINE_INTERVAL_MS: Final = 600_000
"""A clock that stays off is told to the log again after so long."""

_log = structlog.get_logger("node")


class ClockWatch:
    """Follows the chain's blocks."""

    def __init__(
        self,
        chain: Chain,
        *,
        delay_ms_max: int,
        get_certified_height: Callable[[], int],
        is_syncing: Callable[[], bool],
        clock: Clock = read_clock,
    ) -> None:
        """`delay_ms_max` is how long a fresh block may take, from its time until it is final here;
        `is_syncing` tells whether block sync is at work."""
        self._chain = chain
        self._tolerance_ms = chain.genesis.parameters.clock_tolerance_ms
        self._age_ms_max = self._tolerance_ms + delay_ms_max
        self._get_certified_height = get_certified_height
        self._is_syncing = is_syncing
        self._clock = clock
        self._late_blocks = 0
        self._late_span_ms = (0, 0)
        """When the first and the last of them came."""
        self._told: tuple[bool, int] | None = None
        """Whether the clock was said to be ahead last, and when."""
        self._tell()

    @property
    def offset_ms(self) -> int:
        """How far this clock is ahead of the ledger, negative when behind; 0 unless it is surely off."""
        age_ms = self._clock()[1] - self._chain.head.header.time_ms
        if age_ms < -self._tolerance_ms or (self._is_late and age_ms > self._age_ms_max):
            return age_ms
        return 0

    def on_block(self, block: CommittedBlock) -> None:
        # What this node catches up with is old for another reason.
        above = block.header.height - self._get_certified_height()
        if above == 0 or (above > 0 and not self._is_syncing()):
            self._note_age(block.header.time_ms)
        self._tell()

    @property
    def _is_late(self) -> bool:
        first_ms, last_ms = self._late_span_ms
        return self._late_blocks >= LATE_BLOCKS_MIN and last_ms - first_ms >= LATE_SPAN_MS_MIN

    def _note_age(self, time_ms: int) -> None:
        now_ms, wall_ms = self._clock()
        if wall_ms - time_ms <= self._age_ms_max:
            self._late_blocks = 0
            return
        self._late_span_ms = (self._late_span_ms[0] if self._late_blocks else now_ms, now_ms)
        self._late_blocks += 1

    def _tell(self) -> None:
        offset_ms, now_ms = self.offset_ms, self._clock()[0]
        if not offset_ms:
            return
        is_ahead = offset_ms > 0
        if self._told is None or is_ahead != self._told[0] or now_ms - self._told[1] >= LINE_INTERVAL_MS:
            _log.warning("clock is off", reason=describe_clock(offset_ms))
            self._told = (is_ahead, now_ms)

"""Virtual time: what happens when. Two things due at one time happen in the order they were planned in."""

from __future__ import annotations

import heapq
from collections.abc import Callable

EVENTS_MAX = 2_000_000
"""A run that needs more than this is stuck in a loop of its own making."""


class TooManyEvents(RuntimeError):
    """Virtual time stands still or messages breed: the run is stopped."""


class Schedule:
    """A queue of callbacks, ordered by time (microseconds since the run began)."""

    def __init__(self) -> None:
        self.now_us = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_us: int, callback: Callable[[], None]) -> None:
        """Plan `callback` for `delay_us` from now, 0 or more."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._count, callback))

    def run(self, until_us: int, *, is_done: Callable[[], bool] | None = None) -> bool:
        """Let time pass to `until_us`, or until `is_done` (asked every 20 ms) says so; whether it did.

        Raises TooManyEvents.
        """
        asked_us = self.now_us
        while self._queue and self._queue[0][0] <= until_us:
            if self._count > EVENTS_MAX:
                raise TooManyEvents(f"{self._count} events planned, at most {EVENTS_MAX} expected in one run")
            self.now_us, _, callback = heapq.heappop(self._queue)
            callback()
            if is_done is not None and self.now_us - asked_us >= 20_000:
                asked_us = self.now_us
                if is_done():
                    return True
        self.now_us = until_us
        return is_done is not None and is_done()

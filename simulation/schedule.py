"""Virtual time: what happens when. Two things due at one time happen in the order they were planned in."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeVarTuple

EVENTS_MAX = 2_000_000
"""A run that needs more than this is stuck in a loop of its own making."""


ASK_US = 10_000

Arguments = TypeVarTuple("Arguments")


class TooManyEvents(RuntimeError):
    """Virtual time stands still or messages breed: the run is stopped."""


class Schedule:
    """A queue of callbacks, ordered by time (microseconds since the run began)."""

    def __init__(self) -> None:
        self.now_us = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay_us: int, callback: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Plan a call for `delay_us` from now, 0 or more. Raises TooManyEvents."""
        self._count += 1
        if self._count > EVENTS_MAX:
            raise TooManyEvents(f"{self._count} events planned, at most {EVENTS_MAX} expected in one run")
        heappush(self._queue, (self.now_us + delay_us, self._count, callback, arguments))

    def run(self, until_us: int, *, is_done: Callable[[], bool] | None = None) -> bool:
        """Let time pass to `until_us`, or until `is_done` (asked every ASK_US) says so; whether it did."""
        queue, pop = self._queue, heappop
        ask_us = self.now_us + ASK_US if is_done is not None else until_us + 1
        while queue and queue[0][0] <= until_us:
            now_us, _, callback, arguments = pop(queue)
            self.now_us = now_us
            callback(*arguments)
            if now_us >= ask_us:
                ask_us = now_us + ASK_US
                if is_done is not None and is_done():
                    return True
        self.now_us = until_us
        return is_done is not None and is_done()

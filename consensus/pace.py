"""How often somebody may have something done."""

from __future__ import annotations


class Pace:
    """At most one in `interval_ms` for each key; keys are members, so there are few."""

    __slots__ = ("_interval_ms", "_taken_ms")

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._taken_ms: dict[int, int] = {}

    def take(self, key: int, now_ms: int) -> bool:
        taken_ms = self._taken_ms.get(key)
        if taken_ms is not None and now_ms - taken_ms < self._interval_ms:
            return False
        self._taken_ms[key] = now_ms
        return True

    def get_last(self, key: int) -> int | None:
        return self._taken_ms.get(key)

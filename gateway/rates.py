"""Rates: how often one client may ask. Token buckets, one for each key, bounded in number."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import TooMany


class RateLimit:
    """`per_second` on average and `burst` at once, for each key; at most `keys_max` keys are remembered.

    The key that has been silent longest is forgotten first, and forgotten means a full bucket again; with
    `keys_max` well above the number of honest clients that gains an attacker nothing but others' patience.
    """

    def __init__(
        self,
        *,
        name: str,
        per_second: float,
        burst: int,
        keys_max: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, count: int = 1) -> None:
        """Raises TooMany `too_many_requests`, with the seconds to wait, when the key's bucket is empty."""
        now = self._now()
        level, since = self._buckets.pop(key, (float(self._burst), now))
        level = min(self._burst, level + (now - since) * self._per_second)
        allowed = level >= count
        self._buckets[key] = (level - count if allowed else level, now)
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooMany(
                "too_many_requests",
                f"more than {self._name} found",
                "wait as Retry-After says, then go on",
                retry_after_seconds=max(1, math.ceil((count - level) / self._per_second)),
            )

"""Token buckets: average, burst, and a bounded number of keys."""

from __future__ import annotations

import pytest

from gateway.errors import TooMany
from gateway.rates import RateLimit


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def count_allowed(limit: RateLimit, key: str, attempts: int) -> int:
    allowed = 0
    for _ in range(attempts):
        try:
            limit.take(key)
        except TooMany:
            continue
        allowed += 1
    return allowed


def test_burst_is_allowed_at_once_and_then_the_average() -> None:
    clock = Clock()
    limit = RateLimit(name="test", per_second=2, burst=10, keys_max=100, now=clock)
    assert count_allowed(limit, "a", 50) == 10
    clock.seconds += 3
    assert count_allowed(limit, "a", 50) == 6
    clock.seconds += 3_600
    assert count_allowed(limit, "a", 50) == 10


def test_refused_attempts_cost_nothing() -> None:
    clock = Clock()
    limit = RateLimit(name="test", per_second=1, burst=1, keys_max=100, now=clock)
    count_allowed(limit, "a", 1_000)
    clock.seconds += 1
    assert count_allowed(limit, "a", 1) == 1


def test_one_key_does_not_spend_anothers() -> None:
    limit = RateLimit(name="test", per_second=1, burst=2, keys_max=100, now=Clock())
    assert [count_allowed(limit, key, 5) for key in ("a", "b")] == [2, 2]


def test_number_of_keys_is_bounded_and_the_longest_silent_goes() -> None:
    limit = RateLimit(name="test", per_second=1, burst=1, keys_max=3, now=Clock())
    for key in ("a", "b", "c"):
        assert count_allowed(limit, key, 1) == 1
    assert count_allowed(limit, "a", 1) == 0
    assert count_allowed(limit, "d", 1) == 1
    assert len(limit._buckets) == 3
    assert count_allowed(limit, "a", 1) == 0
    assert count_allowed(limit, "b", 1) == 1


def test_refusal_says_how_long_to_wait() -> None:
    limit = RateLimit(name="2 a minute", per_second=1 / 30, burst=1, keys_max=3, now=Clock())
    limit.take("a")
    with pytest.raises(TooMany, match="2 a minute") as refused:
        limit.take("a")
    assert refused.value.retry_after_seconds == 30

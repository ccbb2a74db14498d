"""Checks of arguments that their types cannot express; each raises BadArguments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from contracts.errors import BadArguments


def check_optional(value: bytes, size_bytes: int, field: str) -> None:
    """An optional identifier, hash or key is empty or whole."""
    if len(value) not in (0, size_bytes):
        raise BadArguments(f"{field}: {len(value)} bytes found, none or {size_bytes} expected")


def check_classes(classes: Sequence[str], field: str) -> None:
    """Ascending and without repetition, so that one set of classes has one spelling."""
    if any(first >= second for first, second in pairwise(classes)):
        raise BadArguments(f"{field}: ascending order without repetition expected")


def check_window(from_ms: int, until_ms: int, *, now_ms: int, term_ms_max: int) -> None:
    """A time window that is not over, no longer than `term_ms_max`, and ends no later than that from now."""
    if not from_ms < until_ms:
        raise BadArguments(f"until_ms {until_ms} found, later than from_ms {from_ms} expected")
    if until_ms <= now_ms:
        raise BadArguments(f"until_ms {until_ms} found, later than block time {now_ms} expected")
    longest = until_ms - min(from_ms, now_ms)
    if longest > term_ms_max:
        raise BadArguments(
            f"a term of {longest} ms found, at most {term_ms_max} allowed: choose a nearer end"
        )

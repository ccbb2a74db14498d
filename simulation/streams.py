"""Randomness of a run: a stream for each purpose, so that a change of one leaves the others alone."""

from __future__ import annotations

from random import Random


def draw_stream(seed: int, purpose: str) -> Random:
    """The same numbers for the same seed and purpose, in any process."""
    return Random(f"{seed} {purpose}")  # noqa: S311 -- a simulation must be repeatable

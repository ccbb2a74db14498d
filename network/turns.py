"""Whose turn it is among several that share: whoever has had least, of equals who got nothing for longest.

Time in which somebody wants nothing is no credit, or it could have everything for as long afterwards: whoever
begins to want something stands where the last turn began. So those who always want something have alike, and
one that seldom does is next, but for others that have got nothing for even longer, which have one turn each.
Source: Goyal, Vin and Cheng 1996, start-time fair queueing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Turn:
    """How one of those that share stands."""

    had_us: int = 0
    """What it has had, or might have had."""
    last_us: int = 0
    """When it last got something."""

    @property
    def rank(self) -> tuple[int, int]:
        """The lowest one is next."""
        return self.had_us, self.last_us


class Turns:
    """How far all of them have come."""

    def __init__(self) -> None:
        self._level_us = 0

    def pass_over(self, turn: Turn) -> None:
        """It does not want anything now, or cannot take it."""
        turn.had_us = max(turn.had_us, self._level_us)

    def charge(self, turn: Turn, cost_us: int, now_us: int) -> None:
        """It was next, and has got something."""
        self._level_us = turn.had_us
        turn.had_us += cost_us
        turn.last_us = now_us

"""How long the blocks of each primary were waited for, and which primary is slow beside the others.

A primary that stays just below the view timeout commits all that it must, so the timer never complains of
it; yet where blocks are full, whatever its turn takes longer is lost to everybody (rule L3; attack and answer
are those of Aardvark, NSDI 2009). So it is replaced after a slow block, when its last blocks were slow in the
mean: a quarter of the timeout or longer, and longer than FACTOR allows beside what is usual with the others.
Quick blocks between slow ones do not hide it, and blocks of earlier turns count: whoever was slow gives one
more slow block in its next turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

from consensus.settings import ReplicaSettings

BLOCKS: Final = 16
"""The last blocks of a primary, of which the mean is taken; what it has not led yet counts as nothing."""
FACTOR: Final = 2.5
"""How many times as long as usual a primary may take: of four replicas, one costs 3/8 more time in all."""


class PrimaryWatch:
    """The waits for the last blocks of each primary, as this replica sees them."""

    __slots__ = ("_since_ms", "_timeout_ms", "_waits_ms", "suspect")

    def __init__(self, settings: ReplicaSettings) -> None:
        self.suspect: int | None = None
        """The primary of the last block, if that has shown it to be slow; None once complained of."""
        self._timeout_ms = settings.view_timeout_ms
        self._since_ms: int | None = None
        self._waits_ms: dict[int, deque[int]] = {}

    def retain(self, members: Collection[int]) -> None:
        """Another set votes: who is no member any more is forgotten."""
        self._waits_ms = {one: waits for one, waits in self._waits_ms.items() if one in members}

    def run(self, now_ms: int) -> None:
        """Something is waited for, since now unless it was before."""
        if self._since_ms is None:
            self._since_ms = now_ms

    def stop(self) -> None:
        """Nothing is waited for, or another height or view begins."""
        self._since_ms = None

    def note_block(self, primary: int, now_ms: int) -> None:
        """A block of this primary, with transactions, has become durable in a view; `stop` follows.

        No single wait counts for more than the timeout: several views may have failed meanwhile.
        """
        waits_ms = self._waits_ms.setdefault(primary, deque(maxlen=BLOCKS))
        wait_ms = 0 if self._since_ms is None else now_ms - self._since_ms
        waits_ms.append(min(wait_ms, self._timeout_ms))
        self.suspect = primary if self._is_slow(primary, waits_ms) else None

    def _is_slow(self, primary: int, waits_ms: deque[int]) -> bool:
        least_ms = self._timeout_ms // 4
        if waits_ms[-1] < least_ms:
            return False  # The usual answer, and the cheapest.
        mean_ms = sum(waits_ms) / BLOCKS
        return mean_ms >= least_ms and mean_ms >= self._compute_bearable_ms(primary)

    def _compute_bearable_ms(self, primary: int) -> float:
        """From what mean on a primary is slow beside the others; half of the timeout while none is known."""
        usual_ms = [_compute_median(waits) for other, waits in self._waits_ms.items() if other != primary]
        return FACTOR * _compute_median(usual_ms) if usual_ms else self._timeout_ms / 2


def _compute_median(numbers: Iterable[int]) -> int:
    """The upper one of two."""
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]

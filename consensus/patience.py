"""The view timer: how long a replica waits before it asks for another view.

The timer belongs to the oldest pending transaction, so a primary that commits everything but that one is
replaced (rule L3 within a view), and without anything to wait for no timer runs (rule L2). Timeouts double
with each failed view up to a cap (rule L1) and fall back on progress: a committed block with transactions
after which another transaction is the oldest, or none is.

Where the oldest only expired, the next one has its full time too, but without a commit no more than the cap
in all: else a primary that does nothing and a client that submits what soon expires could hold the network up
for as many timeouts as there are places in the pool.
"""

from __future__ import annotations

from consensus.settings import ReplicaSettings


class Patience:
    """One timer, and how many views in a row have failed."""

    __slots__ = (
        "_has_changed",
        "_has_committed",
        "_is_forwarded",
        "_settings",
        "_started_ms",
        "_waiting_ms",
        "failed_views",
        "oldest",
    )

    def __init__(self, settings: ReplicaSettings) -> None:
        self.oldest: bytes | None = None
        self.failed_views = 0
        self._settings = settings
        self._started_ms: int | None = None
        self._waiting_ms: int | None = None
        """Since when there was always something to wait for, and no block with transactions."""
        self._is_forwarded = False
        self._has_committed = False
        self._has_changed = False

    @property
    def timeout_ms(self) -> int:
        doublings = min(self.failed_views, 32)
        return min(self._settings.view_timeout_ms << doublings, self._settings.view_timeout_ms_max)

    @property
    def tolerance_ms(self) -> int:
        """How far a fresh proposal's clock may be off: further with each failed view, so that replicas whose
        clocks disagree still find a view in which they go on (rule E3)."""
        doublings = min(self.failed_views, 32)
        return min(self._settings.clock_tolerance_ms << doublings, self._settings.clock_tolerance_ms_max)

    def stop(self) -> None:
        self._started_ms = self._waiting_ms = None

    def run(self, now_ms: int) -> None:
        """Start the timer unless it runs already."""
        if self._started_ms is None:
            self._started_ms = now_ms
            self._is_forwarded = False
        if self._waiting_ms is None:
            self._waiting_ms = now_ms

    def is_exhausted(self, now_ms: int) -> bool:
        if self._started_ms is None or self._waiting_ms is None:
            return False
        is_starved = now_ms - self._waiting_ms >= self._settings.view_timeout_ms_max
        return is_starved or now_ms - self._started_ms >= self.timeout_ms

    def take_half(self, now_ms: int) -> bool:
        """True once, when half of the timeout has passed."""
        if self._started_ms is None or self._is_forwarded:
            return False
        self._is_forwarded = 2 * (now_ms - self._started_ms) >= self.timeout_ms
        return self._is_forwarded

    def set_oldest(self, oldest: bytes | None) -> None:
        """Another oldest transaction starts the timer anew; the same one does not."""
        if oldest == self.oldest:
            return
        self.oldest = oldest
        self._started_ms = None
        self._has_changed = True
        self._note_progress()

    def note_commit(self, *, is_empty: bool) -> None:
        """A block has become durable; an empty one is no progress for those who wait."""
        if not is_empty:
            self._waiting_ms = None
            self._has_committed = True
            self._has_changed = self._has_changed or self.oldest is None
            self._note_progress()
        elif self.oldest is None:
            self.failed_views = 0  # Nothing was kept waiting by it.

    def _note_progress(self) -> None:
        if self._has_committed and self._has_changed:
            self.failed_views = 0
            self._has_committed = self._has_changed = False

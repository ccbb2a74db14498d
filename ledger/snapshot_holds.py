"""Which nodes are fetching which snapshot: what is being fetched must not go before it is there.

Each node holds the snapshot that it asked for last, and only for a while. So one that joins may be slow, or
stop and come back, and one that asks in bad faith holds no more than one snapshot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from consensus.replica_set import ReplicaId


class SnapshotHolds:
    """The last request of each node; may be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[ReplicaId, tuple[int, float]] = {}
        """Height, and when it was asked for."""
        self._lock = threading.Lock()

    def hold(self, replica: ReplicaId, height: int) -> None:
        """This node was given parts of the snapshot of this height."""
        with self._lock:
            self._asked[replica] = height, self._clock()

    def list_heights(self, seconds: float) -> set[int]:
        """The snapshots that some node asked for within so many seconds."""
        since = self._clock() - seconds
        with self._lock:
            return {height for height, asked in self._asked.values() if asked >= since}

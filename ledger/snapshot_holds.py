"""Which nodes are fetching which snapshot: what is being fetched must not go before it is there.

Each node holds the snapshot that it asked for last, and only for a while. So one that joins may be slow, or
stop and come back, and one that asks in bad faith holds no more than one snapshot. An institution may
register several nodes by itself; together they hold one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from consensus.replica_set import ReplicaId


@dataclass(frozen=True, slots=True)
class Hold:
    """What one node asked for last."""

    institution: bytes
    """Whose node it is; empty where the ledger does not say."""
    height: int
    asked: float
    """When, in seconds of the clock given."""


class SnapshotHolds:
    """The last request of each node; may be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holds: dict[ReplicaId, Hold] = {}
        self._lock = threading.Lock()

    def hold(self, replica: ReplicaId, institution: bytes, height: int) -> None:
        """This node was given parts of the snapshot of this height."""
        with self._lock:
            self._holds[replica] = Hold(institution, height, self._clock())

    def list_held(self, seconds: float, heights: range) -> list[int]:
        """For each institution the lowest of these heights that some node of it asked for within so many
        seconds: it is the nearest to being whole there. Ascending."""
        since = self._clock() - seconds
        lowest: dict[bytes, int] = {}
        with self._lock:
            for hold in self._holds.values():
                if hold.asked >= since and hold.height in heights:
                    institution = hold.institution
                    lowest[institution] = min(hold.height, lowest.get(institution, hold.height))
        return sorted(set(lowest.values()))

"""How many replicas are enough."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Quorum:
    """Thresholds for `replica_count` replicas.

    Two quorums of `size` overlap in at least `faults_max + 1` replicas, so in an honest one, for every
    replica count; the familiar 2f + 1 does so only when n = 3f + 1.
    """

    replica_count: int

    @cached_property
    def faults_max(self) -> int:
        """How many replicas may fail in any way; 0 below four replicas."""
        return (self.replica_count - 1) // 3

    @cached_property
    def size(self) -> int:
        return (self.replica_count + self.faults_max) // 2 + 1

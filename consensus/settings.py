"""The replica's own settings: times in milliseconds of its monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """How patient a replica is. Only `blocks_per_primary` must be the same everywhere (see the genesis)."""

    blocks_per_primary: int = 100
    """After how many heights the turn passes to the next primary."""
    view_timeout_ms: int = 2_000
    """How long the oldest pending transaction may wait in the first view; doubles with each failed view."""
    view_timeout_ms_max: int = 10_000
    """The cap of that doubling."""
    idle_block_interval_ms: int = 10_000
    """After how long without a block the primary proposes an empty one."""
    build_retry_ms: int = 200
    """When to try again after there was nothing to propose, or to validate after a refusal."""
    status_interval_ms: int = 250
    """How often STATUS goes out; lost messages are repaired at this pace."""
    notice_interval_ms: int = 100
    """At most one commit certificate to one peer in this time."""
    sync_retry_ms: int = 1_000
    """How long block sync may take before it is asked for again, from another peer."""
    rejoin_timeout_ms: int = 15_000
    """A lone VIEW-CHANGE of a live peer is joined when older than this; one of a peer in four such times."""
    clock_tolerance_ms: int = 2_000
    """How far a fresh proposal's time may be off in the first view; doubles with each failed view."""
    clock_tolerance_ms_max: int = 86_400_000
    """The cap of that doubling: one day."""
    view_changes_per_interval: int = 8
    """VIEW-CHANGEs and NEW-VIEWs of one peer that are verified in one status interval."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"consensus.{name}: {getattr(self, name)} found, at least 1 expected")
        if self.view_timeout_ms_max < self.view_timeout_ms:
            raise ValueError("consensus.view_timeout_ms_max is below view_timeout_ms")
        if self.clock_tolerance_ms_max < self.clock_tolerance_ms:
            raise ValueError("consensus.clock_tolerance_ms_max is below clock_tolerance_ms")

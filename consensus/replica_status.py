"""What operators may know of a replica, for readiness and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.replica_set import Epoch, Height, ReplicaId, View


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """A snapshot; nothing in the protocol reads it."""

    epoch: Epoch
    height: Height
    """The head: the highest height that is durable here."""
    certified_height: Height
    """The highest height known to be final; above `height` while blocks are missing here."""
    view: View
    """The view that is on, or the last one that was."""
    asked_view: View
    """The view asked for; above `view` during a view change."""
    primary: ReplicaId
    """Of the next height in `view`."""
    is_member: bool
    """I am in the replica set with the key that I have; others follow without voting."""
    is_starting: bool
    """Too few others have been heard to know whether I may vote."""
    is_silent: bool
    """I follow but do not vote; `silent_reason` says why."""
    silent_reason: str
    is_in_view_change: bool
    failed_views: int
    """Views that failed in a row; sets the timeout."""
    view_changes_sent: int
    """Since this start."""
    halt_reason: str
    """Empty unless the replica has halted."""

"""What operators may know of a replica, for readiness and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.replica_set import Epoch, Height, ReplicaId, View
from consensus.state import ReplicaState


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


def describe_status(state: ReplicaState, *, view_changes_sent: int) -> ReplicaStatus:
    """The snapshot of one replica's state."""
    height, credentials, startup = state.head.height, state.credentials, state.startup
    certified = state.catch_up.certificate
    is_silent = startup.is_decided and not startup.may_vote(height)
    reason = startup.reason if is_silent else ""
    if not credentials.is_member:
        is_silent, reason = True, f"not a member of epoch {credentials.epoch}"
    return ReplicaStatus(
        epoch=Epoch(credentials.epoch),
        height=height,
        certified_height=height if certified is None else Height(certified.height),
        view=state.views.view,
        asked_view=state.views.asked,
        primary=state.primary,
        is_member=credentials.is_member,
        is_starting=credentials.is_member and not startup.is_decided,
        is_silent=is_silent,
        silent_reason=reason,
        is_in_view_change=not state.views.is_active,
        failed_views=state.patience.failed_views,
        view_changes_sent=view_changes_sent,
        halt_reason=state.halt_reason,
    )

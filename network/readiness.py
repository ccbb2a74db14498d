"""Whether a node can serve clients now, and if not, why: for load balancers and operators."""

from __future__ import annotations

from typing import Final

from consensus.quorum import Quorum
from consensus.replica_status import ReplicaStatus

FAILED_VIEWS_MAX: Final = 3
"""One or two failed views are the protocol at work; so many in a row, and clients had better go elsewhere."""


def find_obstacle(
    status: ReplicaStatus,
    *,
    connected: int,
    quorum: Quorum,
    clock_offset_ms: int,
    block_age_ms: int,
    block_age_ms_max: int,
) -> str:
    """The first thing that keeps this node from serving; empty when there is none.

    `clock_offset_ms` is how far this node's clock is ahead of the ledger, negative when behind; 0 when it is
    not known to be off. `block_age_ms` is how far block time lies behind this node's clock. Beyond
    `block_age_ms_max`, the ledger's expiry window, whatever is signed now has expired before the next block.
    """
    if clock_offset_ms:  # First, since it explains the rest: failed views, and links by their certificates.
        return describe_clock(clock_offset_ms)
    if connected < quorum.size - 1:
        return f"{connected} other nodes are connected, {quorum.size - 1} are needed"
    if status.is_starting:
        return "too few others have answered yet to know whether this replica may vote"
    if status.is_silent and status.is_member:
        return status.silent_reason
    if status.certified_height > status.height:
        return f"catching up: at height {status.height}, and {status.certified_height} is final"
    if status.failed_views >= FAILED_VIEWS_MAX:
        return f"{status.failed_views} views in a row have failed: too few replicas agree"
    if block_age_ms > block_age_ms_max:
        age = f"block time is {block_age_ms // 1_000} s old"
        return f"{age}: the first block after a pause is on its way, or this node's clock is ahead"
    return ""


def describe_clock(offset_ms: int) -> str:
    """What is told of a clock that is off: ahead of the ledger, behind it when negative."""
    seconds, side = (abs(offset_ms) + 500) // 1_000, "ahead of" if offset_ms > 0 else "behind"
    return (
        f"this node's clock is {seconds} s {side} the time of the blocks that arrive: set the clock right "
        "(NTP), until then this node does not vote for them; if it is right, look at the other nodes' clocks"
    )

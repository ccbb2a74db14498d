"""Whether a node can serve clients now, and if not, why: for load balancers and operators."""

from __future__ import annotations

from typing import Final

from consensus.quorum import Quorum
from consensus.replica_status import ReplicaStatus

FAILED_VIEWS_MAX: Final = 3
"""One or two failed views are the protocol at work; so many in a row, and clients had better go elsewhere."""


def find_obstacle(
    status: ReplicaStatus, *, connected: int, quorum: Quorum, block_age_ms: int, block_age_ms_max: int
) -> str:
    """The first thing that keeps this node from serving; empty when there is none.

    `block_age_ms` is how far block time lies behind this node's clock. Beyond `block_age_ms_max`, the
    ledger's expiry window, whatever is signed now has expired before the next block.
    """
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
        return f"block time is {block_age_ms // 1_000} s old: the first block after a pause is on its way"
    return ""

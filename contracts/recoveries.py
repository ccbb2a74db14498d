"""Recoveries: epochs that a majority of the institutions opened after the replicas had lost their quorum.

The rows are never deleted: whoever reads the ledger sees where its replicas did not hand over by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from contracts import schedule
from contracts.replica_sets import KEY, ReplicaRow, ReplicaSetRow, replica_set
from contracts.tables import ReadableState, Table


class RecoveryRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One recovery; the row's key is the epoch that it opened, in eight bytes."""

    height: int
    """The last block that an earlier set certified: the set before, unless that has certified none."""
    digest: bytes
    """Of that block's header. What the lost replicas may have certified above it is no part of the ledger."""


recoveries: Final = Table("governance", "recoveries", RecoveryRow)


def compute_recovery_rows(
    epoch: int, members: Sequence[ReplicaRow], *, height: int, digest: bytes
) -> Mapping[bytes, bytes | None]:
    """What the first block of a recovered epoch writes before anything else."""
    present = ReplicaSetRow(epoch=epoch, members=tuple(members))
    row = RecoveryRow(height=height, digest=digest)
    return {
        replica_set.compute_state_key(KEY): replica_set.encode_row(present),
        schedule.scheduled.compute_state_key(schedule.compute_subject_key("replica_set")): None,
        recoveries.compute_state_key(epoch.to_bytes(8, "big")): recoveries.encode_row(row),
    }


def list_recoveries(state: ReadableState) -> list[tuple[int, RecoveryRow]]:
    """Epochs and rows, oldest first."""
    return [(int.from_bytes(key, "big"), row) for key, row in recoveries.scan(state)]

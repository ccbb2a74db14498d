"""Epochs of the light ledger: a transaction that names the next epoch's replica set closes the present one.

The genesis block carries the founders in the same form. A set for any other epoch than the next one does
nothing, like a call that fails on the daemon's ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consensus.replica_set import ReplicaSet
from crypto.encoding import EncodingError, decode_as, encode
from ledger.epochs import CurrentEpoch
from simulation.disk import StoredBlock

_PREFIX: Final = b"replica set "


def encode_change(replica_set: ReplicaSet) -> bytes:
    """The body of the transaction."""
    return _PREFIX + encode(replica_set)


def find_change(bodies: Sequence[bytes], epoch: int) -> ReplicaSet | None:
    """The set that the first of these transactions names for `epoch`, if any does."""
    for body in bodies:
        if body.startswith(_PREFIX):
            try:
                found = decode_as(ReplicaSet, body[len(_PREFIX) :], size_max=1 << 16)
            except EncodingError:
                continue
            if found.epoch == epoch:
                return found
    return None


def advance_epoch(present: CurrentEpoch | None, block: StoredBlock) -> CurrentEpoch | None:
    """The epoch of the height after `block`; None on a ledger that names no replicas."""
    found = find_change(block.bodies, 0 if present is None else present.replica_set.epoch + 1)
    if found is None:
        return present
    return CurrentEpoch(replica_set=found, base_height=block.height, closing=block.certificate)

"""Epochs: which replica set certifies which heights, and the proof that leads from one set to the next.

The block that closes an epoch names the next set in its header, and the old set certifies that block (rule
E4). So whoever knows the genesis follows the sets of all epochs, one closing block after the other. These are
kept for good: old receipts must stay provable.

A set that loses its quorum closes nothing; the institutions hand over in its place, above the last block that
there is. Where the set has certified none at all, that is the block that closed the epoch before, and two
changes or more stand above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from consensus.certificates import Certificate, InvalidCertificate
from consensus.replica_set import ReplicaSet
from crypto.encoding import EncodingError
from ledger.block import HEADER_BYTES_MAX, Header, compute_header_digest, decode_header
from ledger.errors import ProofRefused
from ledger.genesis import Genesis
from ledger.recovery import Recovery, verify_recovery


class EpochChange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One step: the block that closed an epoch, its certificate, and the set that it hands over to."""

    header: Annotated[bytes, Meta(max_length=HEADER_BYTES_MAX)]
    certificate: Certificate
    replica_set: ReplicaSet
    """Of the next epoch; the header names its digest, unless the institutions recovered the ledger."""
    recovery: Recovery | None = None
    """Then they hand over in the replicas' place, above a block that closed nothing, or that closed the epoch
    before the one that is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentEpoch:
    """The epoch of the next height."""

    replica_set: ReplicaSet
    base_height: int
    """The last height of the epochs before; 0 in the first one."""
    closing: Certificate | None
    """Of that height, for replicas that have not heard of it; None in the first epoch. It is not of the epoch
    before where that had no block."""


def follow_epochs(genesis: Genesis, changes: Sequence[EpochChange]) -> ReplicaSet:
    """The replica set after all `changes` since the genesis. Raises ProofRefused at the first that fails."""
    present, chain_id = genesis.replica_set, genesis.compute_chain_id()
    certifier, last_header, height = present, b"", 0
    for change in changes:
        where = f"epoch change {present.epoch}"
        # An epoch without a block is recovered above the one before it, which another set has certified.
        is_lost_whole = change.recovery is not None and change.header == last_header
        if not is_lost_whole:
            certifier = present
        header = verify_certified_header(change.header, change.certificate, certifier, chain_id, where=where)
        if header.height <= height and not is_lost_whole:
            raise ProofRefused(where, f"at height {header.height}, above {height} expected")
        if change.replica_set.epoch != present.epoch + 1:
            raise ProofRefused(where, f"to epoch {change.replica_set.epoch}, {present.epoch + 1} expected")
        _verify_handover(change, header, genesis, where=where, is_lost_whole=is_lost_whole)
        present, last_header, height = change.replica_set, change.header, header.height
    return present


def _verify_handover(
    change: EpochChange, header: Header, genesis: Genesis, *, where: str, is_lost_whole: bool
) -> None:
    """Return when the block, or a majority of the institutions, names the next set. Raises ProofRefused."""
    if change.recovery is None:
        if change.replica_set.compute_digest() != header.next_replica_set_digest:
            raise ProofRefused(where, "the header names another set than the one shown")
        return
    if header.next_replica_set_digest != header.replica_set_digest and not is_lost_whole:
        raise ProofRefused(where, "a recovery in the place of the change that the block itself makes")
    buckets_log2 = genesis.parameters.state_buckets_log2
    verify_recovery(change.recovery, change.header, header, change.replica_set, buckets_log2=buckets_log2)


def list_recovery_heights(changes: Sequence[EpochChange]) -> tuple[int, ...]:
    """The heights above which the institutions handed over."""
    return tuple(change.certificate.height for change in changes if change.recovery is not None)


def verify_certified_header(
    header_bytes: bytes, certificate: Certificate, replica_set: ReplicaSet, chain_id: bytes, *, where: str
) -> Header:
    """The header, when it is of this epoch and a quorum of its set certified it. Raises ProofRefused."""
    try:
        header = decode_header(header_bytes)
    except EncodingError as error:
        raise ProofRefused(where, str(error)) from error
    if (header.chain_id, header.epoch) != (chain_id, replica_set.epoch):
        raise ProofRefused(
            where,
            f"header of chain {header.chain_id.hex()}, epoch {header.epoch}; the steps shown lead to epoch "
            f"{replica_set.epoch}",
        )
    if header.replica_set_digest != replica_set.compute_digest():
        raise ProofRefused(where, "the header names another replica set as its own")
    digest = compute_header_digest(header_bytes)
    if (certificate.digest, certificate.height) != (digest, header.height):
        raise ProofRefused(where, f"certificate for block {certificate.digest.hex()}, not for {digest.hex()}")
    try:
        certificate.verify(chain_id, replica_set)
    except InvalidCertificate as error:
        raise ProofRefused(where, str(error)) from error
    return header

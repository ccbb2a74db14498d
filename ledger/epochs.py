"""Epochs: which replica set certifies which heights, and the proof that leads from one set to the next.

The block that closes an epoch names the next set in its header, and the old set certifies that block (rule
E4). So whoever knows the genesis follows the sets of all epochs, one closing block after the other. These are
kept for good: old receipts must stay provable.
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
    """Then they hand over in the replicas' place, above a block that closed nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentEpoch:
    """The epoch of the next height."""

    replica_set: ReplicaSet
    base_height: int
    """The height that closed the epoch before; 0 in the first one."""
    closing: Certificate | None
    """Of that height, for replicas that have not heard of it; None in the first epoch."""


def follow_epochs(genesis: Genesis, changes: Sequence[EpochChange]) -> ReplicaSet:
    """The replica set after all `changes` since the genesis. Raises ProofRefused at the first that fails."""
    present, height, chain_id = genesis.replica_set, 0, genesis.compute_chain_id()
    for change in changes:
        where = f"epoch change {present.epoch}"
        header = verify_certified_header(change.header, change.certificate, present, chain_id, where=where)
        if header.height <= height:
            raise ProofRefused(where, f"at height {header.height}, above {height} expected")
        following = change.replica_set
        if following.epoch != present.epoch + 1:
            raise ProofRefused(where, f"to epoch {following.epoch}, {present.epoch + 1} expected")
        if change.recovery is not None:
            verify_recovery(
                change.recovery,
                change.header,
                header,
                following,
                buckets_log2=genesis.parameters.state_buckets_log2,
            )
        elif following.compute_digest() != header.next_replica_set_digest:
            raise ProofRefused(where, "the header names another set than the one shown")
        present, height = following, header.height
    return present


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

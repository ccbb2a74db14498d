"""What makes a block valid on a head: checks before execution, and the comparison after it.

Whether a proposal is fresh is judged apart from whether it is valid: the proposer and the clock count only
when a block is proposed for the first time, never when it is proposed again or synced, or a block that a
quorum prepared could become unacceptable with time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.certificates import Certificate
from consensus.replica_set import ReplicaSet
from crypto.encoding import encode
from crypto.hashing import Digest
from ledger.block import FORMAT_VERSION, Header, compute_transactions_digest
from ledger.errors import BlockRefused
from ledger.genesis import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHead:
    """The newest committed block."""

    height: int
    digest: Digest
    header: Header
    header_bytes: bytes
    certificate: Certificate | None
    """None at height 0 only."""


class Freshness(Protocol):
    """For a fresh proposal: who must have proposed it, and the validating replica's own clock."""

    @property
    def proposer(self) -> int: ...

    @property
    def wall_ms(self) -> int: ...

    @property
    def tolerance_ms(self) -> int: ...


def verify_before_execution(
    header: Header,
    signed_hashes: Sequence[bytes],
    *,
    head: BlockHead,
    replica_set: ReplicaSet,
    chain_id: bytes,
) -> None:
    """Return when the header continues `head` and commits to these transactions. Raises BlockRefused.

    Source: docs/protocol.md, section 4, step 2 (rule E1).
    """
    set_digest = replica_set.compute_digest()
    expectations: tuple[tuple[str, object, object], ...] = (
        ("format_version", header.format_version, FORMAT_VERSION),
        ("chain_id", header.chain_id, chain_id),
        ("epoch", header.epoch, replica_set.epoch),
        ("height", header.height, head.height + 1),
        ("parent_hash", header.parent_hash, head.digest),
        ("replica_set_digest", header.replica_set_digest, set_digest),
        ("transaction_count", header.transaction_count, len(signed_hashes)),
        ("transactions_digest", header.transactions_digest, compute_transactions_digest(signed_hashes)),
    )
    for where, found, expected in expectations:
        if found != expected:
            raise BlockRefused(where, found, expected)
    if header.time_ms <= head.header.time_ms:
        raise BlockRefused("time_ms", header.time_ms, f"more than the parent's {head.header.time_ms}")
    if replica_set.get_public_key(header.proposer) is None:
        raise BlockRefused("proposer", header.proposer, f"a replica of epoch {replica_set.epoch}")


def verify_freshness(header: Header, head: BlockHead, rule: Freshness, parameters: Parameters) -> None:
    """Return when the block may be proposed now. Raises BlockRefused.

    A block one millisecond after its parent passes for a clock that is behind the parent, so that one fast
    clock in the past cannot stall the ledger (rule E3).
    """
    if header.proposer != rule.proposer:
        raise BlockRefused("proposer", header.proposer, rule.proposer)
    parent_ms = head.header.time_ms
    is_next_tick = header.time_ms == parent_ms + 1 and rule.wall_ms <= parent_ms
    if abs(header.time_ms - rule.wall_ms) > rule.tolerance_ms and not is_next_tick:
        raise BlockRefused("time_ms", header.time_ms, f"{rule.wall_ms} ± {rule.tolerance_ms}")
    earliest_ms = parent_ms + parameters.idle_block_interval_ms
    if header.transaction_count == 0 and header.time_ms < earliest_ms:
        raise BlockRefused("time_ms", header.time_ms, f"{earliest_ms} or later for an empty block")


def verify_results(header: Header, computed: Header) -> None:
    """Return when execution here found what the header claims. Raises BlockRefused."""
    if encode(header) == encode(computed):
        return
    for where in ("history_size", "history_root", "state_root", "next_replica_set_digest"):
        found, expected = getattr(header, where), getattr(computed, where)
        if found != expected:
            raise BlockRefused(where, found, expected)
    raise BlockRefused("header", encode(header), encode(computed))

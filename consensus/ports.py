"""What the consensus driver needs from the rest of the node.

The replica itself needs none of this: it takes events and returns effects. The driver turns effects into
calls of these ports and their outcomes into events again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from consensus.certificates import Certificate
from consensus.replica_set import Epoch, Height, ReplicaId, ReplicaSet


class Proposal(Struct, frozen=True):
    """An opaque block: the bytes of its header, and the hashes of the signed transactions in block order.

    Consensus never looks inside; `Application.compute_digest` gives the digest that votes name.
    """

    header: bytes
    transaction_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Freshness:
    """For a fresh proposal only: who must have proposed it, and how far its clock may be off.

    Re-proposals and synced blocks are validated without it.
    """

    proposer: ReplicaId
    wall_ms: int
    """The validating replica's own clock."""
    tolerance_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What became of a proposal that was to be validated."""

    ok: bool
    """Executed here on the head, and everything in the header was found the same."""
    has_diverged: bool = False
    """Every body was at hand and execution led elsewhere than the header says, whatever the clock said."""
    refusal: str | None = None
    """Why not, for the log; ids and digests only. None where nobody is at fault."""


class Application(Protocol):
    """The ledger as the driver sees it. All blocks build on the committed head; there is no second fork."""

    def compute_digest(self, proposal: Proposal) -> bytes:
        """The header digest, 32 bytes. Raises ValueError unless header and hashes belong together."""

    async def build(
        self, *, epoch: Epoch, height: Height, proposer: ReplicaId, wall_ms: int, may_be_empty: bool
    ) -> Proposal | None:
        """Execute pending transactions on the head, oldest first.

        None when there is nothing to propose, and where `height` of `epoch` is not the next one any more:
        block sync may be ahead of the replica.
        """

    async def validate(
        self, proposal: Proposal, *, height: Height, source: ReplicaId, freshness: Freshness | None
    ) -> Validation:
        """Fetch missing bodies (from `source` first), execute on the head, compare with the header.

        Not ok when the proposal is wrong or for another height, or its bodies cannot be had, and where
        `height` is not the next one any more; never raises for a peer's fault.
        """

    def get_bodies(self, proposal: Proposal) -> Sequence[bytes]:
        """The signed bytes of a validated proposal's transactions, for the journal.

        To be had until `forget_through`, also where block sync has made the height durable meanwhile.
        """

    def forget_through(self, height: Height) -> None:
        """The replica has gone on from `height`, to which the ledger may have come long before it."""

    def restore(self, proposal: Proposal, bodies: Sequence[bytes]) -> None:
        """After a restart: keep these journaled bodies and serve them until their height is durable."""

    async def commit(self, proposal: Proposal, certificate: Certificate) -> ReplicaSet | None:
        """Make a validated block durable; returns when synced: the next height's replica set if it changed.

        Nothing happens when block sync was first. Raises on a disk error, which ends the process.
        """

    def discard(self, proposal: Proposal) -> None:
        """A speculation that will not commit in this view; its transactions stay pending."""

    def note_time(self, wall_ms: int) -> None:
        """Told at every tick: a transaction past its expiry by this clock is not waited for any longer.

        Or it would be the oldest pending one until block time passes its expiry too, and on an idle ledger
        views would fail over what no primary can propose (rule L2).
        """


class Transport(Protocol):
    """Authenticated links to the other replicas; best effort, bounded, never blocking."""

    def send(self, replica: ReplicaId, message: bytes) -> None: ...

    def broadcast(self, message: bytes) -> None:
        """To every other replica."""

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        """The replica sent what no honest one sends; the links count it and may drop the replica a while."""


class BlockSync(Protocol):
    """Fetches blocks that this replica misses and makes those durable that are certified."""

    def request(self, height: int, source: ReplicaId) -> None:
        """Fetch up to `height`, if there is as much, from `source` first; returns at once.

        `ChainSynced` reports each success.
        """


class Relay(Protocol):
    """Carries transactions to the other nodes."""

    def forward_oldest(self, primary: ReplicaId) -> None:
        """Send the body of the oldest pending transaction to `primary` once more."""

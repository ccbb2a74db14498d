"""What a replica wants done, in the order in which it must be done: persist, then send, then apply.

Everything in `persist` is synced to disk before anything in `send` leaves, or a restarted replica could
contradict itself. Actions are carried out by the driver; their outcomes come back as events.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct  # As events are, and for the same reason.

from consensus.certificates import Certificate
from consensus.journal_records import JournalRecord
from consensus.messages import Message, Vote
from consensus.ports import Freshness, Proposal
from consensus.replica_set import Epoch, Height, ReplicaId, View


class Send(Struct, frozen=True, kw_only=True):
    """A message to one replica, or to all others."""

    to: ReplicaId | None
    message: Message


class Build(Struct, frozen=True, kw_only=True):
    """Execute pending transactions on the head; answered by `ProposalBuilt`, with a proposal or without."""

    epoch: Epoch
    height: Height
    view: View
    may_be_empty: bool
    """The idle interval has passed: a block without transactions keeps block time moving."""


class Validate(Struct, frozen=True, kw_only=True):
    """Fetch, execute and compare; answered by `ProposalValidated`. The head is one below `height`."""

    epoch: Epoch
    height: Height
    view: View
    proposal: Proposal
    digest: bytes
    source: ReplicaId
    """Who should have the bodies; my own id when my journal has them."""
    freshness: Freshness | None
    """None for a re-proposal and for a certified block: proposer and clock are then not checked."""


class CommitBlock(Struct, frozen=True, kw_only=True):
    """Make a validated block durable with its certificate; answered by `BlockDurable`."""

    proposal: Proposal
    digest: bytes
    certificate: Certificate


class Discard(Struct, frozen=True, kw_only=True):
    """A speculation that will not become final by this vote; its transactions stay pending."""

    proposal: Proposal
    digest: bytes


class RequestSync(Struct, frozen=True, kw_only=True):
    """Blocks up to `height` are missing here, as a certificate proves, or as `source` claims without proof.

    What is certified is asked for until `ChainSynced` reaches the height, of the next source each time. To a
    mere claim nothing is owed, and votes go on beside it."""

    height: Height
    source: ReplicaId


class ForwardOldest(Struct, frozen=True, kw_only=True):
    """Half the timeout has passed: send the body of the oldest pending transaction to the primary."""

    primary: ReplicaId


class TruncateJournal(Struct, frozen=True, kw_only=True):
    """`height` is durable: keep what `journal_records.select_needed` selects."""

    height: Height


class ReportEvidence(Struct, frozen=True, kw_only=True):
    """Two verified votes of one replica for one epoch, height, view and phase, with different digests."""

    first: Vote
    second: Vote


class ReportRefusal(Struct, frozen=True, kw_only=True):
    """A peer sent what no honest replica sends: to be counted against it; `reason` says what."""

    sender: ReplicaId
    reason: str


class Halt(Struct, frozen=True, kw_only=True):
    """This replica must stop: going on could contradict the others."""

    reason: str


Action: TypeAlias = (
    Build
    | Validate
    | CommitBlock
    | Discard
    | RequestSync
    | ForwardOldest
    | TruncateJournal
    | ReportEvidence
    | ReportRefusal
    | Halt
)


class Effects(Struct, frozen=True, kw_only=True):
    """The outcome of one step; the three parts are carried out strictly in this order."""

    persist: tuple[JournalRecord, ...] = ()
    send: tuple[Send, ...] = ()
    apply: tuple[Action, ...] = ()


NOTHING = Effects()

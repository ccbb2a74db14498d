"""What replicas say to each other, and its bytes.

Every message is `[format version, [kind, field, …]]` in the canonical encoding; sizes are checked before
anything is built. Votes are signed over the fixed layout of `certificates.compute_vote_bytes`; VIEW-CHANGE,
NEW-VIEW, STATUS and RECOLLECTION over chain id, kind and all fields before the signature. The other kinds
carry their proof within them (a certificate) or are checked against a digest already known (a proposal).

    EncodingError (crypto.encoding)   bytes that are no message: the peer's fault, dropped and counted
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import astuple

from consensus.certificates import Certificate, Phase, PreparedCertificate
from consensus.ports import Proposal
from consensus.replica_set import REPLICAS_MAX, VIEW_MAX
from crypto.encoding import decode_as, encode

FORMAT_VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = 1_048_576
"""A NEW-VIEW of 100 replicas needs 650 kB, a PRE-PREPARE of 20,000 hashes 680 kB."""
HEADER_BYTES_MAX: Final = 4_096
PROPOSAL_TRANSACTIONS_MAX: Final = 20_000

_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_View = Annotated[int, Meta(ge=0, le=VIEW_MAX)]
_Replica = Annotated[int, Meta(ge=0, le=65_535)]
_Replicas = Annotated[tuple[_Replica, ...], Meta(max_length=REPLICAS_MAX)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Hashes = Annotated[tuple[_Hash, ...], Meta(max_length=PROPOSAL_TRANSACTIONS_MAX)]
_Header = Annotated[bytes, Meta(min_length=1, max_length=HEADER_BYTES_MAX)]
_Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]


class PrePrepare(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """The primary's proposal; its signature is the primary's PRE_PREPARE vote for the header's digest."""

    epoch: _Counter
    height: _Counter
    view: _View
    header: _Header
    transaction_hashes: _Hashes
    primary: _Replica
    signature: _Signature

    @property
    def proposal(self) -> Proposal:
        return Proposal(self.header, self.transaction_hashes)

    def compute_vote(self, digest: bytes) -> Vote:
        """The vote that this message is, given the digest of its proposal."""
        phase = Phase.PRE_PREPARE
        return Vote(self.epoch, self.height, self.view, phase, digest, self.primary, self.signature)


class Vote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """A PREPARE or a COMMIT. As a record of what was signed it may also stand for a PRE_PREPARE."""

    epoch: _Counter
    height: _Counter
    view: _View
    phase: Phase
    digest: _Hash
    replica: _Replica
    signature: _Signature


class ViewChange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """I leave every view below `view`: what I have committed, and what is prepared on top of it.

    A replica sends one for each view and never another for the same view.
    """

    epoch: _Counter
    view: _View
    base: Certificate | None
    """The last commit certificate; None where the epoch begins, at its closing block or the genesis."""
    prepared: PreparedCertificate | None
    """The highest prepared certificate for the height after `base`, if any."""
    replica: _Replica
    signature: _Signature


class NewView(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """The proof that `view` has begun: a quorum of VIEW-CHANGEs, from which everybody computes its choice."""

    epoch: _Counter
    view: _View
    view_changes: Annotated[tuple[ViewChange, ...], Meta(min_length=1, max_length=REPLICAS_MAX)]
    replica: _Replica
    signature: _Signature


class Status(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Where I am and what I hold, so that others can send what I miss."""

    epoch: _Counter
    height: _Counter
    """My head: the highest height that is durable here."""
    view: _View
    """The view I am in, or am changing to."""
    is_active: bool
    """False while I change to `view`."""
    has_proposal: bool
    """Whether I hold the primary's PRE-PREPARE for the next height in this view."""
    prepares: _Replicas
    """Whose PREPAREs for the next height in this view I hold."""
    commits: _Replicas
    session: _Counter
    """Not 0 while I start: an answer of RECOLLECTION with this number is asked for."""
    replica: _Replica
    signature: _Signature


class Recollection(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """To a starting replica: what I remember of it. It compares that with its journal before it votes."""

    session: _Counter
    """As asked, so that an answer to an earlier start is not taken for this one."""
    height: _Counter
    """Of my head; what counts is the certificate, which proves it."""
    certificate: Certificate | None
    """Of my head."""
    vote: Vote | None
    """The highest vote of the asking replica that I have seen."""
    view_change: ViewChange | None
    """The asking replica's VIEW-CHANGE for the highest view."""
    replica: _Replica
    signature: _Signature


class ProposalRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """I must handle a prepared block and miss its proposal."""

    epoch: _Counter
    height: _Counter
    digest: _Hash


class ProposalResponse(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """A proposal by its content; the receiver checks it against the digest that it asked for."""

    header: _Header
    transaction_hashes: _Hashes

    @property
    def proposal(self) -> Proposal:
        return Proposal(self.header, self.transaction_hashes)


class CommittedNotice(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """This block is final: to a replica that is behind, or in an older view."""

    certificate: Certificate


Message: TypeAlias = (
    PrePrepare
    | Vote
    | ViewChange
    | NewView
    | Status
    | Recollection
    | ProposalRequest
    | ProposalResponse
    | CommittedNotice
)


class _Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format_version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    message: Message


def make_pre_prepare(vote: Vote, proposal: Proposal) -> PrePrepare:
    """The message that the primary's PRE_PREPARE vote for `proposal` travels in."""
    header, hashes = proposal.header, proposal.transaction_hashes
    return PrePrepare(vote.epoch, vote.height, vote.view, header, hashes, vote.replica, vote.signature)


def encode_message(message: Message) -> bytes:
    return encode(_Envelope(FORMAT_VERSION, message))


def decode_message(data: bytes) -> Message:
    """Raises EncodingError when `data` is not the one canonical encoding of a message within its bounds."""
    return decode_as(_Envelope, data, size_max=MESSAGE_BYTES_MAX).message


def compute_signed_bytes(chain_id: bytes, message: ViewChange | NewView | Status | Recollection) -> bytes:
    """What the signature of `message` covers: chain id, kind, and every field before the signature."""
    return encode((chain_id, message.__struct_config__.tag, *astuple(message)[:-1]))

"""What a replica must not forget: the records of its journal, their bytes, and which are still needed.

A record is synced to disk before anything that depends on it is sent (rules P1 to P3), and is needed until a
later height is durable; the newest VIEW-CHANGE and NEW-VIEW are needed for good, since a replica that asked
for a view never again votes below it, and so is the newest act of an operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias, assert_never

from msgspec import Meta, Struct

from consensus.certificates import PreparedCertificate
from consensus.messages import (
    HEADER_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    PROPOSAL_TRANSACTIONS_MAX,
    NewView,
    ViewChange,
    Vote,
)
from consensus.ports import Proposal
from crypto.encoding import decode_as, encode

FORMAT_VERSION: Final = 1
REASON_LENGTH_MAX: Final = 200

_Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class ProposalRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """A proposal that I vouch for; the driver journals every body beside it (rule P1)."""

    height: _Counter
    digest: _Hash
    header: Annotated[bytes, Meta(min_length=1, max_length=HEADER_BYTES_MAX)]
    transaction_hashes: Annotated[tuple[_Hash, ...], Meta(max_length=PROPOSAL_TRANSACTIONS_MAX)]

    @property
    def proposal(self) -> Proposal:
        return Proposal(self.header, self.transaction_hashes)


class VoteRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """A vote of mine, of any phase."""

    vote: Vote


class PreparedRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The proof that a quorum prepared what I voted to commit (rule P2)."""

    certificate: PreparedCertificate


class ViewChangeRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """My VIEW-CHANGE: from here on I vote in no lower view (rule P3)."""

    view_change: ViewChange


class NewViewRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """The proof by which I entered a view, mine or another primary's (rules P3 and V10)."""

    new_view: NewView


class SilenceRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """I may have voted what this journal does not know: silent until `until` is durable (rule P6)."""

    until: _Counter
    """0 while the others have not yet been heard."""
    epoch: _Counter = 0
    """Whose members were heard; what was said in a later one they cannot know."""


class OverrideRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """An operator has ended the silence, and answers for it; kept for good."""

    height: _Counter
    """Of the head at that time; once another height is durable the override has served."""
    time_ms: _Counter
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_LENGTH_MAX)]


JournalRecord: TypeAlias = (
    ProposalRecord
    | VoteRecord
    | PreparedRecord
    | ViewChangeRecord
    | NewViewRecord
    | SilenceRecord
    | OverrideRecord
)


class _Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format_version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    record: JournalRecord


def encode_record(record: JournalRecord) -> bytes:
    return encode(_Envelope(FORMAT_VERSION, record))


def decode_record(data: bytes) -> JournalRecord:
    """Raises EncodingError when `data` is not the canonical encoding of a record."""
    return decode_as(_Envelope, data, size_max=MESSAGE_BYTES_MAX + 16).record


def select_needed(records: Sequence[JournalRecord], height: int) -> tuple[JournalRecord, ...]:
    """The records still needed once `height` is durable, in their order: what a truncated journal keeps."""
    last = {type(record): index for index, record in enumerate(records)}

    def is_needed(index: int, record: JournalRecord) -> bool:
        match record:
            case VoteRecord():
                return record.vote.height > height
            case ProposalRecord():
                return record.height > height
            case PreparedRecord():
                return record.certificate.height > height
            case ViewChangeRecord() | NewViewRecord() | OverrideRecord():
                return last[type(record)] == index
            case SilenceRecord():
                return last[type(record)] == index and not 0 < record.until <= height
            case _:
                assert_never(record)

    return tuple(record for index, record in enumerate(records) if is_needed(index, record))

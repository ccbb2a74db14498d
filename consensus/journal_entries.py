"""The replica's records as journal entries; a proposal takes its transactions' bodies along.

Before a PREPARE leaves, the journal holds the header and every body (rule P1): otherwise a power cut
everywhere could bind all replicas to a digest that nobody can execute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import msgspec

from consensus.journal import FRAME_BYTES_MAX, Entry
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    OverrideRecord,
    PreparedRecord,
    ProposalRecord,
    SilenceRecord,
    ViewChangeRecord,
    VoteRecord,
    decode_record,
    encode_record,
)
from consensus.ports import Proposal
from crypto.encoding import decode_as, encode

_STANDING_VIEW_CHANGE: Final = 1
_STANDING_NEW_VIEW: Final = 2
_STANDING_SILENCE: Final = 3
_STANDING_OVERRIDE: Final = 4


class _Content(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What an entry holds: a record's bytes, and for a proposal its bodies in block order."""

    record: bytes
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContent:
    """What a node finds in its journal when it starts."""

    records: tuple[JournalRecord, ...]
    proposals: tuple[tuple[Proposal, tuple[bytes, ...]], ...]
    """Proposals that the replica vouched for, each with its bodies."""


def encode_entry(record: JournalRecord, bodies: Sequence[bytes] = ()) -> Entry:
    """The entry for `record`; `bodies` for a proposal's record only."""
    height, standing = _classify(record)
    return Entry(height, standing, encode(_Content(encode_record(record), tuple(bodies))))


def decode_entries(entries: Iterable[Entry]) -> JournalContent:
    """Raises EncodingError when an entry is none that `encode_entry` makes: written by another version."""
    records: list[JournalRecord] = []
    proposals: list[tuple[Proposal, tuple[bytes, ...]]] = []
    for entry in entries:
        content = decode_as(_Content, entry.data, size_max=FRAME_BYTES_MAX)
        record = decode_record(content.record)
        records.append(record)
        if isinstance(record, ProposalRecord):
            proposals.append((record.proposal, content.bodies))
    return JournalContent(records=tuple(records), proposals=tuple(proposals))


def _classify(record: JournalRecord) -> tuple[int, int]:
    """Height and standing number; agrees with `journal_records.select_needed`."""
    match record:
        case ProposalRecord():
            return record.height, 0
        case VoteRecord():
            return record.vote.height, 0
        case PreparedRecord():
            return record.certificate.height, 0
        case ViewChangeRecord():
            return 0, _STANDING_VIEW_CHANGE
        case NewViewRecord():
            return 0, _STANDING_NEW_VIEW
        case SilenceRecord():
            return 0, _STANDING_SILENCE
        case OverrideRecord():
            return 0, _STANDING_OVERRIDE
        case _:
            assert_never(record)

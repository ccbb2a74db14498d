"""Messages and journal records survive their encoding, and nothing else decodes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature
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
    select_needed,
)
from consensus.messages import (
    MESSAGE_BYTES_MAX,
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    ProposalRequest,
    ProposalResponse,
    Recollection,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
    decode_message,
    encode_message,
)
from crypto.encoding import EncodingError

SIGNATURE = bytes(range(64))
HASH = bytes(range(32))
CERTIFICATE = Certificate(0, 4, 1, HASH, (VoteSignature(1, SIGNATURE), VoteSignature(2, SIGNATURE)))
PREPARED = PreparedCertificate(0, 5, 2, HASH, 1, (VoteSignature(1, SIGNATURE),))
VOTE = Vote(0, 5, 2, Phase.COMMIT, HASH, 3, SIGNATURE)
VIEW_CHANGE = ViewChange(0, 3, CERTIFICATE, PREPARED, 2, SIGNATURE)
NEW_VIEW = NewView(0, 3, (VIEW_CHANGE, VIEW_CHANGE), 3, SIGNATURE)

MESSAGES: list[Message] = [
    PrePrepare(0, 5, 2, b"header", (HASH, HASH), 1, SIGNATURE),
    VOTE,
    VIEW_CHANGE,
    ViewChange(0, 1, None, None, 2, SIGNATURE),
    NEW_VIEW,
    Status(0, 4, 2, True, False, (0, 1), (3,), 0, 2, SIGNATURE),
    Recollection(7, 4, CERTIFICATE, VOTE, VIEW_CHANGE, 2, SIGNATURE),
    ProposalRequest(0, 5, HASH),
    ProposalResponse(b"header", (HASH,)),
    CommittedNotice(CERTIFICATE),
]

RECORDS: list[JournalRecord] = [
    ProposalRecord(5, HASH, b"header", (HASH,)),
    VoteRecord(VOTE),
    PreparedRecord(PREPARED),
    ViewChangeRecord(VIEW_CHANGE),
    NewViewRecord(NEW_VIEW),
    SilenceRecord(7),
    OverrideRecord(7, 1_700_000_000_000, "never voted before"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_its_encoding(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_journal_record_survives_its_encoding(record: JournalRecord) -> None:
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_d1_every_shortened_lengthened_or_doubled_message_is_refused(message: Message) -> None:
    data = encode_message(message)
    for end in range(len(data)):
        with pytest.raises(EncodingError):
            decode_message(data[:end])
    with pytest.raises(EncodingError):
        decode_message(data + b"\x00")
    with pytest.raises(EncodingError):
        decode_message(data + data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_d1_arbitrary_bytes_are_refused_or_decode_to_what_encodes_alike(data: bytes) -> None:
    try:
        message = decode_message(data)
    except EncodingError:
        return
    assert encode_message(message) == data


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_d1_a_message_with_altered_bytes_is_refused_or_another_message(
    message: Message, data: st.DataObject
) -> None:
    encoded = bytearray(encode_message(message))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_message(bytes(encoded))
    except EncodingError:
        return
    assert encode_message(found) == bytes(encoded)
    assert found != message


def test_d1_an_oversized_message_is_refused_before_it_is_read() -> None:
    with pytest.raises(EncodingError, match="at most"):
        decode_message(bytes(MESSAGE_BYTES_MAX + 1))


@pytest.mark.parametrize("view", [-1, 2**32, 2**63 - 1])
def test_v8_a_view_outside_its_bounds_does_not_decode(view: int) -> None:
    vote = msgspec.structs.replace(VOTE, view=view)
    with pytest.raises(EncodingError):
        decode_message(encode_message(vote))


def test_e5_what_is_signed_names_chain_kind_and_every_field() -> None:
    status = MESSAGES[5]
    assert isinstance(status, Status)
    signed = {
        compute_signed_bytes(HASH, status),
        compute_signed_bytes(bytes(32), status),
        *(
            compute_signed_bytes(HASH, msgspec.structs.replace(status, **{name: value}))
            for name, value in {
                "epoch": 1,
                "height": 9,
                "view": 9,
                "is_active": False,
                "has_proposal": True,
                "prepares": (),
                "commits": (),
                "session": 9,
                "replica": 9,
            }.items()
        ),
    }
    assert len(signed) == 11


def test_a_truncated_journal_keeps_what_later_heights_and_views_need() -> None:
    old = ViewChangeRecord(msgspec.structs.replace(VIEW_CHANGE, view=2))
    assert select_needed([old, *RECORDS], 4) == tuple(RECORDS)
    assert select_needed([old, *RECORDS], 5) == tuple(RECORDS[3:])
    assert select_needed([old, *RECORDS], 7) == (RECORDS[3], RECORDS[4], RECORDS[6])
    assert select_needed([SilenceRecord(0)], 7) == (SilenceRecord(0),)

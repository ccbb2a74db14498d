"""The auditor finds a signer that contradicted itself, wherever its two statements lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature, compute_vote_bytes
from consensus.journal import Journal
from consensus.journal_entries import encode_entry
from consensus.journal_records import JournalRecord, PreparedRecord, ViewChangeRecord, VoteRecord
from consensus.messages import ViewChange, Vote, compute_signed_bytes
from consensus.replica_set import Member, ReplicaSet
from crypto import tags
from crypto.signatures import InvalidSignature, SigningKey
from tests.end_to_end.journal_audit import JournalAudit

CHAIN_ID = bytes(32)
FIRST, SECOND = b"a" * 32, b"b" * 32
KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
REPLICA_SET = ReplicaSet(
    epoch=0,
    members=tuple(
        Member(replica=number, public_key=key.public_key, institution=bytes(16))
        for number, key in enumerate(KEYS)
    ),
)


@pytest.fixture
def audit() -> JournalAudit:
    return JournalAudit(CHAIN_ID, REPLICA_SET)


def sign(replica: int, digest: bytes, *, height: int = 5, phase: Phase = Phase.PREPARE) -> Vote:
    signed = compute_vote_bytes(CHAIN_ID, 0, height, 0, phase, digest)
    return Vote(0, height, 0, phase, digest, replica, KEYS[replica].sign(tags.VOTE, signed))


def sign_view_change(replica: int, base: Certificate | None) -> ViewChange:
    unsigned = ViewChange(0, 3, base, None, replica, bytes(64))
    signature = KEYS[replica].sign(tags.VIEW_CHANGE, compute_signed_bytes(CHAIN_ID, unsigned))
    return ViewChange(0, 3, base, None, replica, signature)


def write(directory: Path, *records: JournalRecord) -> Path:
    Journal.create(directory)
    journal = Journal.open(directory)
    for record in records:
        journal.append([encode_entry(record)])
    journal.close()
    return directory


def test_votes_that_agree_contradict_nothing(audit: JournalAudit, tmp_path: Path) -> None:
    vote = VoteRecord(sign(0, FIRST))
    commit = VoteRecord(sign(0, SECOND, phase=Phase.COMMIT))
    audit.gather(write(tmp_path / "a", vote, vote, commit, VoteRecord(sign(0, SECOND, height=6))))
    audit.gather(write(tmp_path / "b", VoteRecord(sign(1, SECOND))))
    audit.check()
    assert (audit.statement_count, audit.count_of(0), audit.count_of(1)) == (4, 3, 1)


def test_two_votes_for_one_slot_are_found_over_journals_and_restarts(
    audit: JournalAudit, tmp_path: Path
) -> None:
    audit.gather(write(tmp_path / "before", VoteRecord(sign(2, FIRST))))
    audit.gather(write(tmp_path / "after", VoteRecord(sign(2, SECOND))))
    with pytest.raises(AssertionError, match="PREPARE"):
        audit.check()
    assert [found.slot for found in audit.contradictions] == [(0, 5, 0, "PREPARE", 2)]


def test_a_vote_inside_anothers_certificate_counts(audit: JournalAudit, tmp_path: Path) -> None:
    """What a wiped node had signed is still with those who relied on it."""
    primary = sign(0, FIRST, phase=Phase.PRE_PREPARE)
    votes = [primary, sign(1, FIRST), sign(2, FIRST)]
    signatures = tuple(VoteSignature(vote.replica, vote.signature) for vote in votes)
    prepared = PreparedCertificate(0, 5, 0, FIRST, 0, signatures)
    audit.gather(write(tmp_path / "peer", PreparedRecord(prepared)))
    audit.gather(write(tmp_path / "wiped", VoteRecord(sign(2, SECOND))))
    assert [found.slot[-1] for found in audit.contradictions] == [2]


def test_a_second_view_change_for_one_view_is_found(audit: JournalAudit, tmp_path: Path) -> None:
    commits = [sign(number, FIRST, phase=Phase.COMMIT) for number in range(3)]
    base = Certificate(0, 5, 0, FIRST, tuple(VoteSignature(vote.replica, vote.signature) for vote in commits))
    audit.gather(write(tmp_path / "a", ViewChangeRecord(sign_view_change(1, None))))
    audit.gather(write(tmp_path / "b", ViewChangeRecord(sign_view_change(1, base))))
    assert [found.slot for found in audit.contradictions] == [(0, 0, 3, "VIEW_CHANGE", 1)]


def test_what_nobody_signed_is_no_evidence(audit: JournalAudit, tmp_path: Path) -> None:
    vote = sign(1, FIRST)
    forged = Vote(0, 5, 0, Phase.PREPARE, SECOND, 1, vote.signature)
    with pytest.raises(InvalidSignature):
        audit.gather(write(tmp_path / "a", VoteRecord(vote), VoteRecord(forged)))


def test_an_audit_that_read_nothing_does_not_pass(audit: JournalAudit) -> None:
    with pytest.raises(AssertionError, match="no journal was read"):
        audit.check()

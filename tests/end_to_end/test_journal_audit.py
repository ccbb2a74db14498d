"""The auditor finds a signer that contradicted itself, wherever its statements lie and in whatever epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature, compute_vote_bytes
from consensus.journal import Journal
from consensus.journal_entries import encode_entry
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    PreparedRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import NewView, ViewChange, Vote, compute_signed_bytes
from contracts.calls.changes import KeyChange
from crypto import tags
from crypto.signatures import InvalidSignature, SigningKey
from ledger.errors import ProofRefused
from ledger.recovery_file import prepare_recovery, sign_change
from tests.end_to_end.journal_audit import JournalAudit
from tests.ledger.consortium import Consortium, make_key

FIRST, SECOND = b"a" * 32, b"b" * 32


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(tmp_path / "ledgers")
    yield made
    for chain in made.opened:
        chain.close()


@pytest.fixture
def audit(consortium: Consortium) -> JournalAudit:
    return JournalAudit(consortium.genesis)


class Signers:
    """Signs for the replicas of one consortium, each with the key it has in the genesis unless told."""

    def __init__(self, consortium: Consortium) -> None:
        self._chain_id = consortium.chain_id

    def vote(
        self,
        replica: int,
        digest: bytes,
        *,
        epoch: int = 0,
        height: int = 5,
        phase: Phase = Phase.PREPARE,
        key: SigningKey | None = None,
    ) -> Vote:
        signed = compute_vote_bytes(self._chain_id, epoch, height, 0, phase, digest)
        key = key or make_key(f"node {replica}")
        return Vote(epoch, height, 0, phase, digest, replica, key.sign(tags.VOTE, signed))

    def view_change(self, replica: int, base: Certificate | None) -> ViewChange:
        unsigned = ViewChange(0, 3, base, None, replica, bytes(64))
        signed = compute_signed_bytes(self._chain_id, unsigned)
        return replace(unsigned, signature=make_key(f"node {replica}").sign(tags.VIEW_CHANGE, signed))

    def new_view(self, replica: int, *view_changes: ViewChange) -> NewView:
        unsigned = NewView(0, 3, view_changes, replica, bytes(64))
        signed = compute_signed_bytes(self._chain_id, unsigned)
        return replace(unsigned, signature=make_key(f"node {replica}").sign(tags.NEW_VIEW, signed))

    def certificate(self, digest: bytes, height: int = 5) -> Certificate:
        votes = [self.vote(number, digest, height=height, phase=Phase.COMMIT) for number in range(3)]
        signatures = tuple(VoteSignature(vote.replica, vote.signature) for vote in votes)
        return Certificate(0, height, 0, digest, signatures)


@pytest.fixture
def sign(consortium: Consortium) -> Signers:
    return Signers(consortium)


def write(directory: Path, *records: JournalRecord) -> Path:
    Journal.create(directory)
    journal = Journal.open(directory)
    for record in records:
        journal.append([encode_entry(record)])
    journal.close()
    return directory


def test_votes_that_agree_contradict_nothing(audit: JournalAudit, sign: Signers, tmp_path: Path) -> None:
    vote = VoteRecord(sign.vote(0, FIRST))
    commit = VoteRecord(sign.vote(0, SECOND, phase=Phase.COMMIT))
    audit.gather(write(tmp_path / "a", vote, vote, commit, VoteRecord(sign.vote(0, SECOND, height=6))))
    audit.gather(write(tmp_path / "b", VoteRecord(sign.vote(1, SECOND))))
    audit.check()
    assert (audit.statement_count, audit.count_of(0), audit.count_of(1)) == (4, 3, 1)


def test_two_votes_for_one_slot_are_found_over_journals_and_restarts(
    audit: JournalAudit, sign: Signers, tmp_path: Path
) -> None:
    audit.gather(write(tmp_path / "before", VoteRecord(sign.vote(2, FIRST))))
    audit.gather(write(tmp_path / "after", VoteRecord(sign.vote(2, SECOND))))
    with pytest.raises(AssertionError, match="PREPARE"):
        audit.check()
    assert [found.slot for found in audit.contradictions] == [(0, 5, 0, "PREPARE", 2)]


def test_a_vote_inside_anothers_certificate_counts(
    audit: JournalAudit, sign: Signers, tmp_path: Path
) -> None:
    """What a wiped node had signed is still with those who relied on it."""
    votes = [sign.vote(0, FIRST, phase=Phase.PRE_PREPARE), sign.vote(1, FIRST), sign.vote(2, FIRST)]
    signatures = tuple(VoteSignature(vote.replica, vote.signature) for vote in votes)
    prepared = PreparedCertificate(0, 5, 0, FIRST, 0, signatures)
    audit.gather(write(tmp_path / "peer", PreparedRecord(prepared)))
    audit.gather(write(tmp_path / "wiped", VoteRecord(sign.vote(2, SECOND))))
    assert [found.slot[-1] for found in audit.contradictions] == [2]


def test_a_second_view_change_and_a_second_new_view_for_one_view_are_found(
    audit: JournalAudit, sign: Signers, tmp_path: Path
) -> None:
    first, second = sign.view_change(1, None), sign.view_change(1, sign.certificate(FIRST))
    audit.gather(write(tmp_path / "a", ViewChangeRecord(first), NewViewRecord(sign.new_view(3, first))))
    audit.check()
    audit.gather(write(tmp_path / "b", ViewChangeRecord(second), NewViewRecord(sign.new_view(3, second))))
    slots = [found.slot for found in audit.contradictions]
    assert slots == [(0, 0, 3, "VIEW_CHANGE", 1), (0, 0, 3, "VIEW_CHANGE", 1), (0, 0, 3, "NEW_VIEW", 3)]


def test_a_vote_below_a_view_that_was_asked_for_earlier_is_found(audit: JournalAudit, sign: Signers) -> None:
    audit.add_view_change(sign.view_change(1, sign.certificate(FIRST)))
    audit.add_vote(sign.vote(1, FIRST, height=6))  # It may have come before the request.
    audit.add_vote(sign.vote(2, FIRST, height=7))
    audit.check()
    audit.add_vote(sign.vote(1, FIRST, height=7))
    with pytest.raises(AssertionError, match="below a view that was asked for"):
        audit.check()


def test_what_nobody_signed_is_no_evidence(audit: JournalAudit, sign: Signers, tmp_path: Path) -> None:
    vote = sign.vote(1, FIRST)
    with pytest.raises(InvalidSignature):
        audit.gather(write(tmp_path / "a", VoteRecord(vote), VoteRecord(replace(vote, digest=SECOND))))


def test_an_audit_that_read_nothing_does_not_pass(audit: JournalAudit) -> None:
    with pytest.raises(AssertionError, match="no journal was read"):
        audit.check()


def follow(audit: JournalAudit, consortium: Consortium) -> int:
    """Let the audit know the ledger's epochs; the first height of the last one."""
    chain = consortium.chain
    audit.follow(chain.archive.list_epoch_changes(chain.replica_set.epoch))
    return chain.epoch.base_height + 1


def rotate(consortium: Consortium) -> None:
    """Replica 2 gets another key."""
    rotation = KeyChange(2, make_key("node 7").public_key, consortium.prove(2, "node 7"))
    consortium.change(by=2, rotate=(rotation,))


def test_two_votes_for_one_slot_of_a_later_epoch_are_found_by_the_rotated_key(
    consortium: Consortium, audit: JournalAudit, sign: Signers, tmp_path: Path
) -> None:
    rotate(consortium)
    height, key = follow(audit, consortium), make_key("node 7")
    old = VoteRecord(sign.vote(2, FIRST, height=height - 1))
    new = VoteRecord(sign.vote(2, FIRST, epoch=1, height=height, key=key))
    audit.gather(write(tmp_path / "before", old, new))
    audit.check()
    assert audit.epochs == {0, 1}
    planted = VoteRecord(sign.vote(2, SECOND, epoch=1, height=height, key=key))
    audit.gather(write(tmp_path / "after", planted))
    with pytest.raises(AssertionError, match="PREPARE"):
        audit.check()
    assert [found.slot for found in audit.contradictions] == [(1, height, 0, "PREPARE", 2)]


def test_each_key_of_a_replica_speaks_in_its_own_epochs_only(
    consortium: Consortium, audit: JournalAudit, sign: Signers
) -> None:
    rotate(consortium)
    height = follow(audit, consortium)
    for epoch, key in ((0, "node 7"), (1, "node 2")):
        with pytest.raises(InvalidSignature):
            audit.add_vote(sign.vote(2, FIRST, epoch=epoch, height=height, key=make_key(key)))


def test_a_vote_of_an_epoch_that_does_not_decide_upon_its_height_is_found(
    consortium: Consortium, sign: Signers
) -> None:
    consortium.change(remove=(1,))
    for epoch, offset in ((0, 0), (1, -1)):
        audit = JournalAudit(consortium.genesis)
        height = follow(audit, consortium)
        audit.add_vote(sign.vote(0, FIRST, epoch=epoch, height=height + offset))
        with pytest.raises(AssertionError, match="outside their epoch"):
            audit.check()


def test_a_removed_replica_and_an_epoch_that_never_began_have_no_votes(
    consortium: Consortium, audit: JournalAudit, sign: Signers
) -> None:
    consortium.change(remove=(1,))
    height = follow(audit, consortium)
    with pytest.raises(AssertionError, match="replica 1 is not in epoch 1"):
        audit.add_vote(sign.vote(1, FIRST, epoch=1, height=height))
    with pytest.raises(AssertionError, match="no ledger has opened it"):
        audit.add_vote(sign.vote(0, FIRST, epoch=2, height=height))


def test_after_a_recovery_the_remaining_replicas_are_audited_like_others(
    consortium: Consortium, audit: JournalAudit, sign: Signers
) -> None:
    consortium.commit()
    change = prepare_recovery(consortium.chain, (0, 1))
    for number in range(3):
        change = sign_change(change, consortium.keys[number])
    consortium.chain.recover(change)
    chain = consortium.chain
    height = consortium.commit().header.height
    audit.follow(chain.archive.list_epoch_changes(1))
    # Those who were lost, and those who go on, may have voted there before.
    for replica in (0, 3):
        audit.add_vote(sign.vote(replica, FIRST, height=height))
    audit.add_vote(sign.vote(0, SECOND, epoch=1, height=height))
    audit.check()
    audit.add_vote(sign.vote(0, FIRST, epoch=1, height=height))
    assert [found.slot for found in audit.contradictions] == [(1, height, 0, "PREPARE", 0)]


def test_ledgers_that_open_an_epoch_differently_are_found(consortium: Consortium, tmp_path: Path) -> None:
    other = Consortium(tmp_path / "others")
    consortium.change(remove=(0,))
    other.change(remove=(1,))
    audit = JournalAudit(consortium.genesis)
    follow(audit, consortium)
    with pytest.raises(AssertionError, match="two ledgers open epoch 1 differently"):
        follow(audit, other)
    (change,) = other.chain.archive.list_epoch_changes(1)
    other.chain.close()
    with pytest.raises(ProofRefused):
        audit.follow((replace(change, replica_set=consortium.chain.replica_set),))

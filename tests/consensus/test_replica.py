"""Agreement in the ordinary case, and what a replica refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import pytest

from consensus.agreement import PROPOSALS_MAX
from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature, compute_vote_bytes
from consensus.credentials import Credentials, InvalidMessage
from consensus.effects import Build, Effects, RequestSync, Validate
from consensus.events import (
    BlockDurable,
    MessageReceived,
    PendingChanged,
    ProposalBuilt,
    ProposalValidated,
    Tick,
)
from consensus.evidence import InvalidEvidence, verify_evidence
from consensus.journal_records import PreparedRecord, ProposalRecord, VoteRecord
from consensus.messages import CommittedNotice, PrePrepare, Status, Vote
from consensus.ports import Proposal
from consensus.repair import compute_status
from consensus.replica_set import Epoch, Height, ReplicaId, View
from consensus.view_changer import OVERDUE_INTERVALS
from consensus.votes import HEIGHTS_AHEAD, VIEWS_AHEAD, VIEWS_BEHIND, VoteLog
from crypto import tags

Cluster: TypeAlias = Any
"""The fixtures' cluster, which pytest imports by file."""

CHAIN_ID = hashlib.sha256(b"test chain").digest()
DIGEST = bytes(31) + b"\x01"
OTHER = bytes(31) + b"\x02"


def sign_vote(
    cluster: Cluster, replica: int, phase: Phase, digest: bytes, *, height: int = 1, view: int = 0
) -> Vote:
    message = compute_vote_bytes(CHAIN_ID, 0, height, view, phase, digest)
    return Vote(0, height, view, phase, digest, replica, cluster.keys.sign(replica, tags.VOTE, message))


def sign_pre_prepare(
    cluster: Cluster, replica: int, proposal: Proposal, *, height: int = 1, view: int = 0
) -> PrePrepare:
    digest = hashlib.sha256(b"\x00".join((proposal.header, *proposal.transaction_hashes))).digest()
    vote = sign_vote(cluster, replica, Phase.PRE_PREPARE, digest, height=height, view=view)
    return PrePrepare(0, height, view, proposal.header, proposal.transaction_hashes, replica, vote.signature)


def receive(cluster: Cluster, target: int, sender: int, message: Any) -> Effects:
    effects: Effects = cluster.step(target, MessageReceived(sender=ReplicaId(sender), message=message))
    return effects


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("is_real", [False, True])
def test_any_number_of_replicas_commits_the_same_blocks(
    cluster_of: Callable[..., Cluster], count: int, is_real: bool
) -> None:
    cluster = cluster_of(count, is_real=is_real).boot()
    for number in range(3):
        cluster.submit(b"transaction %d" % number)
        cluster.deliver()
    cluster.check_agreement()
    assert cluster.get_heights() == [3] * count
    assert not cluster.refused
    for disk in cluster.disks.values():
        disk.chain[-1][1].verify(CHAIN_ID, cluster.replica_set, cluster.keys.verify)


def test_a_backup_votes_only_after_the_block_was_executed_with_the_same_result(cluster: Cluster) -> None:
    cluster.judge = lambda replica, validate: (replica != 2, False)
    cluster.submit(b"a")
    cluster.deliver()
    voters = {vote.replica for vote in cluster.get_sent(Vote) if vote.phase is Phase.PREPARE}
    assert voters == {1, 3}


def test_p1_p2_header_prepared_certificate_and_vote_are_persisted_in_the_step_that_sends(
    cluster: Cluster,
) -> None:
    seen: set[Phase] = set()

    def check(replica: int, effects: Effects) -> bool:
        for send in effects.send:
            if not isinstance(send.message, Vote | PrePrepare):
                continue
            phase = Phase.PRE_PREPARE if isinstance(send.message, PrePrepare) else send.message.phase
            seen.add(phase)
            assert any(isinstance(r, VoteRecord) and r.vote.phase is phase for r in effects.persist)
            if phase is Phase.COMMIT:
                assert any(isinstance(record, PreparedRecord) for record in effects.persist)
            else:
                assert any(isinstance(record, ProposalRecord) for record in effects.persist)
        return False

    cluster.crash_before_send = check
    cluster.submit(b"a")
    cluster.deliver()
    assert seen == set(Phase)
    assert cluster.get_heights() == [1] * 4


def test_no_vote_for_the_next_height_before_the_block_is_durable(cluster: Cluster) -> None:
    """The driver is slow: it has been told to commit, and has not answered yet."""
    replica = cluster.replicas[3]
    proposal = cluster.make_proposal(0, 1, (DIGEST,), b"")
    pre_prepare = sign_pre_prepare(cluster, 0, proposal)
    cluster.down.add(3)  # The test steps this replica by hand.

    validate = replica.step(MessageReceived(sender=ReplicaId(0), message=pre_prepare)).apply[0]
    assert isinstance(validate, Validate)
    digest = validate.digest
    replica.step(ProposalValidated(epoch=Epoch(0), height=Height(1), view=View(0), digest=digest, ok=True))
    for phase, voters in ((Phase.PREPARE, (1, 2)), (Phase.COMMIT, (0, 1, 2))):
        for voter in voters:
            replica.step(
                MessageReceived(sender=ReplicaId(voter), message=sign_vote(cluster, voter, phase, digest))
            )
    following = Proposal(b"next", (OTHER,))
    effects = replica.step(
        MessageReceived(sender=ReplicaId(0), message=sign_pre_prepare(cluster, 0, following, height=2))
    )
    assert effects == Effects()
    effects = replica.step(BlockDurable(height=Height(1), digest=digest))
    assert any(isinstance(action, Validate) and action.height == 2 for action in effects.apply)


def test_v1_a_message_of_another_signer_than_its_sender_is_refused(cluster: Cluster) -> None:
    proposal = cluster.make_proposal(0, 1, (), b"")
    messages = [
        sign_pre_prepare(cluster, 0, proposal),
        sign_vote(cluster, 2, Phase.COMMIT, DIGEST),
        compute_status(cluster.replicas[2]._state),
    ]
    for message in messages:
        cluster.refused.clear()
        effects = receive(cluster, 3, 1, message)
        assert len(cluster.refused) == 1, message
        assert not effects.send
        assert not effects.persist


def test_v1_a_pre_prepare_with_any_field_altered_changes_nothing(cluster: Cluster) -> None:
    good = sign_pre_prepare(cluster, 0, cluster.make_proposal(0, 1, (DIGEST,), b""))
    changes: list[dict[str, Any]] = [
        {"epoch": 1},
        {"height": 2},
        {"view": 1},
        {"header": b"other"},
        {"header": b"!does not fit"},
        {"transaction_hashes": (OTHER,)},
        {"primary": 1},
        {"signature": bytes(64)},
    ]
    for change in changes:
        effects = receive(cluster, 3, 0, msgspec.structs.replace(good, **change))
        assert not any(isinstance(action, Validate) for action in effects.apply), change
        assert not effects.send, change
    assert any(isinstance(action, Validate) for action in receive(cluster, 3, 0, good).apply)


def test_v1_a_pre_prepare_vote_without_its_proposal_is_refused(cluster: Cluster) -> None:
    effects = receive(cluster, 3, 0, sign_vote(cluster, 0, Phase.PRE_PREPARE, DIGEST))
    assert len(cluster.refused) == 1
    assert not effects.send


def test_v1_badly_signed_votes_make_no_quorum(cluster: Cluster) -> None:
    cluster.drops.append(lambda sender, target, message: target == 3 and isinstance(message, Vote))
    cluster.submit(b"a")
    cluster.deliver()
    assert cluster.disks[3].height == 0
    digest = cluster.get_digest(0, 1)
    for voter in (0, 1, 2):
        good = sign_vote(cluster, voter, Phase.COMMIT, digest)
        receive(cluster, 3, voter, msgspec.structs.replace(good, signature=bytes(64)))
    assert cluster.disks[3].height == 0
    for voter in (0, 1, 2):
        receive(cluster, 3, voter, sign_vote(cluster, voter, Phase.COMMIT, digest))
    assert cluster.disks[3].height == 1


def test_v3_a_prepare_of_the_primary_counts_for_nothing(cluster: Cluster) -> None:
    cluster.drops.append(lambda sender, target, message: target == 3 and isinstance(message, Vote))
    cluster.submit(b"a")
    cluster.deliver()
    digest = cluster.get_digest(0, 1)
    cluster.sent.clear()
    receive(cluster, 3, 0, sign_vote(cluster, 0, Phase.PREPARE, digest))
    assert len(cluster.refused) == 1
    assert not any(isinstance(m, Vote) and m.phase is Phase.COMMIT for m in cluster.get_sent(Vote, 3))
    receive(cluster, 3, 1, sign_vote(cluster, 1, Phase.PREPARE, digest))
    assert any(isinstance(m, Vote) and m.phase is Phase.COMMIT for m in cluster.get_sent(Vote, 3))


def test_v4_a_certificate_needs_distinct_signers_of_one_view_height_and_digest(cluster: Cluster) -> None:
    def sign(replica: int, phase: Phase, **slot: Any) -> VoteSignature:
        vote = sign_vote(cluster, replica, phase, slot.pop("digest", DIGEST), **slot)
        return VoteSignature(replica, vote.signature)

    first, second = sign(0, Phase.PRE_PREPARE), sign(1, Phase.PREPARE)

    def verify(*signatures: VoteSignature, primary: int = 0) -> None:
        certificate = PreparedCertificate(0, 1, 0, DIGEST, primary, signatures)
        certificate.verify(CHAIN_ID, cluster.replica_set, 1_000_000, cluster.keys.verify)

    verify(first, second, sign(2, Phase.PREPARE))
    bad = [
        (first, second),
        (first, second, second),
        (second, sign(2, Phase.PREPARE), sign(3, Phase.PREPARE)),
        (first, second, sign(2, Phase.PREPARE, view=1)),
        (first, second, sign(2, Phase.PREPARE, height=2)),
        (first, second, sign(2, Phase.PREPARE, digest=OTHER)),
        (first, second, sign(2, Phase.COMMIT)),
        (sign(0, Phase.PREPARE), second, sign(2, Phase.PREPARE)),
    ]
    for signatures in bad:
        with pytest.raises(ValueError, match=r"signers|twice|PRE-PREPARE|verify"):
            verify(*signatures)
    with pytest.raises(ValueError, match="primary 1 found"):
        verify(first, second, sign(2, Phase.PREPARE), primary=1)


def test_e2_a_replica_that_finds_other_results_than_a_quorum_halts(cluster: Cluster) -> None:
    cluster.judge = lambda replica, validate: (replica != 2, replica == 2)
    cluster.submit(b"a")
    cluster.deliver()
    assert list(cluster.halts) == [2]
    assert "other results" in cluster.halts[2]
    assert [cluster.get_heights()[r] for r in (0, 1, 3)] == [1, 1, 1]


def test_e2_two_certified_blocks_at_one_height_halt(cluster: Cluster) -> None:
    cluster.submit(b"a")
    cluster.deliver()
    signatures = tuple(
        VoteSignature(r, sign_vote(cluster, r, Phase.COMMIT, OTHER).signature) for r in range(3)
    )
    receive(cluster, 3, 1, CommittedNotice(Certificate(0, 1, 0, OTHER, signatures)))
    assert list(cluster.halts) == [3]


def test_e2_a_forged_certificate_for_a_final_height_halts_nobody(cluster: Cluster) -> None:
    cluster.submit(b"a")
    cluster.deliver()
    signature = sign_vote(cluster, 1, Phase.COMMIT, OTHER).signature
    forged = Certificate(0, 1, 0, OTHER, tuple(VoteSignature(replica, signature) for replica in range(3)))
    receive(cluster, 3, 1, CommittedNotice(forged))
    assert len(cluster.refused) == 1
    assert not cluster.halts


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.COMMIT])
def test_e5_a_vote_does_not_count_on_another_chain_in_another_phase_or_slot(
    cluster: Cluster, phase: Phase
) -> None:
    credentials: Credentials = cluster.replicas[0]._state.credentials
    good = sign_vote(cluster, 1, phase, DIGEST, height=5, view=2)
    credentials.verify_vote(good)
    other_phase = Phase.COMMIT if phase is Phase.PREPARE else Phase.PREPARE
    for change in ({"phase": other_phase}, {"height": 6}, {"view": 3}, {"digest": OTHER}, {"replica": 2}):
        with pytest.raises(InvalidMessage):
            credentials.verify_vote(msgspec.structs.replace(good, **change))
    message = compute_vote_bytes(bytes(32), 0, 5, 2, phase, DIGEST)
    foreign = msgspec.structs.replace(good, signature=cluster.keys.sign(1, tags.VOTE, message))
    with pytest.raises(InvalidMessage):
        credentials.verify_vote(foreign)


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.COMMIT])
def test_e7_two_votes_for_one_slot_become_evidence_once(cluster: Cluster, phase: Phase) -> None:
    first, second = sign_vote(cluster, 2, phase, DIGEST), sign_vote(cluster, 2, phase, OTHER)
    for message in (first, second, second, first):
        receive(cluster, 3, 2, message)
    assert len(cluster.evidence) == 1
    found = cluster.evidence[0]
    verify_evidence(CHAIN_ID, cluster.replica_set, found.first, found.second, cluster.keys.verify)


def test_e7_two_proposals_for_one_slot_become_evidence_and_the_first_stays(cluster: Cluster) -> None:
    proposals = [cluster.make_proposal(0, 1, (), salt) for salt in (b"one", b"two")]
    for proposal in proposals:
        receive(cluster, 3, 0, sign_pre_prepare(cluster, 0, proposal))
    assert len(cluster.evidence) == 1
    found = cluster.evidence[0]
    verify_evidence(CHAIN_ID, cluster.replica_set, found.first, found.second, cluster.keys.verify)
    votes = cluster.get_sent(Vote, 3)
    assert {vote.digest for vote in votes} == {found.first.digest}


def test_e7_forged_evidence_is_refused(cluster: Cluster) -> None:
    first = sign_vote(cluster, 2, Phase.COMMIT, DIGEST)
    second = sign_vote(cluster, 2, Phase.COMMIT, OTHER)
    forgeries = [
        (first, first),
        (first, sign_vote(cluster, 2, Phase.PREPARE, OTHER)),
        (first, sign_vote(cluster, 2, Phase.COMMIT, OTHER, view=1)),
        (first, sign_vote(cluster, 1, Phase.COMMIT, OTHER)),
        (first, msgspec.structs.replace(second, signature=first.signature)),
        tuple(msgspec.structs.replace(vote, replica=9) for vote in (first, second)),
        tuple(msgspec.structs.replace(vote, epoch=1) for vote in (first, second)),
    ]
    for one, two in forgeries:
        with pytest.raises(InvalidEvidence):
            verify_evidence(CHAIN_ID, cluster.replica_set, one, two, cluster.keys.verify)


def test_e7_nobody_is_accused_by_a_badly_signed_vote(cluster: Cluster) -> None:
    forged = msgspec.structs.replace(sign_vote(cluster, 2, Phase.COMMIT, DIGEST), signature=bytes(64))
    receive(cluster, 3, 2, forged)
    receive(cluster, 3, 2, sign_vote(cluster, 2, Phase.COMMIT, OTHER))
    assert not cluster.evidence


def test_d1_a_flood_of_votes_occupies_a_small_window(cluster: Cluster) -> None:
    log = cluster.replicas[3]._state.log
    for height in range(1, 60):
        for view in range(30):
            for phase in (Phase.PREPARE, Phase.COMMIT):
                vote = Vote(0, height, view, phase, DIGEST, 2, bytes(64))
                receive(cluster, 3, 2, vote)
    slots = [slot for height in range(70) for _, slot in log.select(height)]
    assert 0 < len(slots) <= (1 + HEIGHTS_AHEAD) * (1 + VIEWS_AHEAD)
    assert all(len(slot.get_voters(phase)) <= 4 for slot in slots for phase in Phase if phase)


def test_d1_proposals_of_a_height_that_never_ends_are_bounded_and_the_prepared_one_stays(
    cluster: Cluster,
) -> None:
    cluster.drops.append(lambda sender, target, message: getattr(message, "phase", None) is Phase.COMMIT)
    cluster.submit(b"a")
    cluster.deliver()
    agreement = cluster.replicas[3]._state.agreement
    prepared = agreement.prepared.digest
    for number in range(2 * PROPOSALS_MAX):
        agreement.keep(number.to_bytes(32, "big"), Proposal(b"%d" % number, ()))
    assert len(agreement._proposals) == PROPOSALS_MAX
    assert agreement.get_proposal(prepared) is not None
    assert agreement.get_proposal((2 * PROPOSALS_MAX - 1).to_bytes(32, "big")) is not None


def test_d1_views_asked_for_in_vain_do_not_widen_the_window() -> None:
    log = VoteLog()
    for highest in range(1_000):
        log.move(height=5, view_low=0, view_high=highest)
        for view in (0, highest - 1, highest, highest + VIEWS_AHEAD):
            if log.accepts(5, view):
                log.get(5, view)
        assert len(list(log.select(5))) <= 1 + VIEWS_BEHIND + 1 + VIEWS_AHEAD
    assert [view for view, _ in log.select(5)] == [0, 997, 998, 999, 1_000, 1_001]


def test_early_messages_for_the_next_height_are_kept(cluster: Cluster) -> None:
    """Replica 3 gets everything of height 2 before it has finished height 1."""
    held: list[tuple[int, Any]] = []

    def hold(sender: int, target: int, message: Any) -> bool:
        is_late = target == 3 and isinstance(message, Vote | PrePrepare) and message.height == 1
        if is_late:
            held.append((sender, message))
        return is_late

    cluster.drops.append(hold)
    cluster.submit(b"a")
    cluster.deliver()
    cluster.submit(b"b")
    cluster.deliver()
    assert cluster.get_heights() == [2, 2, 2, 0]
    cluster.drops.clear()
    for sender, message in held:
        receive(cluster, 3, sender, message)
    assert cluster.get_heights() == [2, 2, 2, 2]
    assert not cluster.synced


def test_a_message_about_a_final_height_is_answered_with_its_certificate_at_a_pace(cluster: Cluster) -> None:
    cluster.submit(b"a")
    cluster.deliver()
    cluster.run(300)
    cluster.sent.clear()
    for _ in range(50):
        receive(cluster, 1, 3, sign_vote(cluster, 3, Phase.COMMIT, DIGEST))
    notices = [m for s, t, m in cluster.sent if (s, t) == (1, 3) and isinstance(m, CommittedNotice)]
    assert len(notices) == 1


def test_v6_a_proposal_that_could_not_be_executed_is_tried_again_soon(cluster: Cluster) -> None:
    """Its bodies come late to two backups, without whom there is no quorum."""
    tried: set[int] = set()

    def judge(replica: int, validate: Validate) -> tuple[bool, bool]:
        is_first = replica not in tried
        tried.add(replica)
        return not (is_first and replica in (2, 3)), False

    cluster.judge = judge
    cluster.submit(b"a")
    cluster.deliver()
    assert cluster.get_heights() == [0] * 4
    cluster.run(2 * cluster.settings.build_retry_ms)
    assert cluster.get_heights() == [1] * 4
    assert [cluster.replicas[r].status.view for r in range(4)] == [0] * 4


def test_d1_statuses_are_answered_at_a_pace(cluster: Cluster) -> None:
    cluster.drops.append(lambda sender, target, message: target == 2)
    cluster.submit(b"a")
    cluster.deliver()
    behind = compute_status(cluster.replicas[2]._state)
    sent = [receive(cluster, 3, 2, behind).send for _ in range(20)]
    assert sum(bool(one) for one in sent) == 1


def test_p6_the_highest_vote_of_a_replica_is_remembered_in_whatever_order_they_come(cluster: Cluster) -> None:
    log = cluster.replicas[3]._state.log
    highest = sign_vote(cluster, 2, Phase.COMMIT, DIGEST, height=4, view=1)
    for vote in (
        sign_vote(cluster, 2, Phase.COMMIT, DIGEST, height=3, view=7),
        highest,
        sign_vote(cluster, 2, Phase.PREPARE, DIGEST, height=4, view=1),
        sign_vote(cluster, 2, Phase.COMMIT, DIGEST, height=4, view=0),
    ):
        log.remember(vote)
    assert log.latest[2] == highest


def test_d1_votes_at_durable_heights_are_forgotten(cluster: Cluster) -> None:
    for number in range(20):
        cluster.submit(b"%d" % number)
        cluster.deliver()
    assert cluster.get_heights() == [20] * 4
    assert [cluster.replicas[r]._state.guard._votes for r in range(4)] == [{}] * 4


def test_v6_missing_blocks_are_asked_of_one_signer_after_the_other(cluster: Cluster) -> None:
    """Whoever signed has the block; one that withholds it is asked again only after the others."""
    cluster.down.add(3)  # The test steps this replica by hand.
    signatures = tuple(
        VoteSignature(r, sign_vote(cluster, r, Phase.COMMIT, OTHER, height=5).signature) for r in range(3)
    )
    notice = CommittedNotice(Certificate(0, 5, 0, OTHER, signatures))
    replica = cluster.replicas[3]
    effects = [replica.step(MessageReceived(sender=ReplicaId(1), message=notice))]
    for _ in range(5):
        cluster.now_ms += cluster.settings.sync_retry_ms
        effects.append(replica.step(Tick(monotonic_ms=cluster.now_ms, wall_ms=cluster.now_ms)))
    asked = [action for one in effects for action in one.apply if isinstance(action, RequestSync)]
    assert [action.source for action in asked] == [1, 0, 2, 1, 0, 2]
    assert {action.height for action in asked} == {5}


def test_whoever_missed_a_whole_block_syncs_and_does_not_change_view(cluster: Cluster) -> None:
    cluster.drops.append(lambda sender, target, message: 3 in (sender, target))
    for number in range(3):
        cluster.submit(b"%d" % number)
        cluster.deliver()
    cluster.drops.clear()
    cluster.run(1_000)
    assert cluster.get_heights() == [3] * 4
    assert cluster.synced[0] == (3, 3)
    assert [cluster.replicas[r].status.view for r in range(4)] == [0] * 4


@pytest.mark.parametrize("kind", [PrePrepare, Phase.PREPARE, Phase.COMMIT])
def test_every_first_message_of_one_kind_may_be_lost(cluster: Cluster, kind: Any) -> None:
    lost: set[tuple[int, int, int]] = set()

    def lose(sender: int, target: int, message: Any) -> bool:
        phase = getattr(message, "phase", None)
        if not (isinstance(message, kind) if kind is PrePrepare else phase is kind):
            return False
        key = (sender, target, message.height)
        is_first = key not in lost
        lost.add(key)
        return is_first

    cluster.drops.append(lose)
    for number in range(3):
        cluster.submit(b"%d" % number)
        cluster.run(1_200)
    cluster.check_agreement()
    assert cluster.get_heights() == [3] * 4
    assert lost
    assert [cluster.replicas[r].status.view for r in range(4)] == [0] * 4


def test_the_same_events_lead_to_the_same_effects(cluster_of: Callable[..., Cluster]) -> None:
    def run() -> list[bytes]:
        cluster = cluster_of(4, view_timeout_ms=500).boot()
        cluster.crash(0)
        for number in range(5):
            cluster.submit(b"%d" % number)
            cluster.run(700)
        cluster.start(0)
        cluster.run(2_000)
        trace: list[bytes] = cluster.trace
        return trace

    first, second = run(), run()
    assert len(first) > 500
    assert first == second


def test_l2_an_idle_network_makes_idle_blocks_and_no_view_change(cluster_of: Callable[..., Cluster]) -> None:
    cluster = cluster_of(4, status_interval_ms=60_000, idle_block_interval_ms=600_000).boot()
    cluster.run(24 * 3_600_000, 300_000)
    assert min(cluster.get_heights()) >= 24 * 6 - 2
    assert [r.status.view_changes_sent for r in cluster.replicas.values()] == [0] * 4
    cluster.check_agreement()


def test_after_a_pause_of_the_whole_network_block_time_moves_on_at_once(
    cluster_of: Callable[..., Cluster],
) -> None:
    """What is signed before the first block after a pause may have expired by then."""
    cluster = cluster_of(4)
    cluster.block_times_ms[cluster.get_digest(0, 0)] -= cluster.settings.idle_block_interval_ms
    cluster.boot()
    assert cluster.get_heights() == [1] * 4
    cluster.run(cluster.settings.idle_block_interval_ms - 1_000, 100)
    assert cluster.get_heights() == [1] * 4


def test_l2_with_a_dead_primary_and_nothing_to_do_only_an_overdue_idle_block_is_waited_for(
    cluster: Cluster,
) -> None:
    """Else block time would stand still until nothing that clients sign could be taken any more."""
    interval_ms = cluster.settings.idle_block_interval_ms
    cluster.crash(0)
    heights = cluster.get_heights()[1:]
    # A start counts like an interval that has passed.
    cluster.run((OVERDUE_INTERVALS - 1) * interval_ms - 1_000, 1_000)
    assert [cluster.replicas[r].status.view_changes_sent for r in (1, 2, 3)] == [0] * 3
    assert cluster.get_heights()[1:] == heights
    cluster.run(20 * interval_ms, 1_000)
    assert [cluster.replicas[r].status.view_changes_sent for r in (1, 2, 3)] == [1] * 3
    assert [cluster.replicas[r].status.failed_views for r in (1, 2, 3)] == [0] * 3
    assert min(cluster.get_heights()[1:]) > max(heights) + 15
    cluster.check_agreement()


def test_a_replica_does_nothing_before_its_first_tick(cluster_of: Callable[..., Cluster]) -> None:
    cluster = cluster_of(4)
    assert receive(cluster, 3, 0, sign_vote(cluster, 0, Phase.COMMIT, DIGEST)) == Effects()
    effects = cluster.step(3, Tick(monotonic_ms=5, wall_ms=5))
    assert [type(send.message) for send in effects.send] == [Status]


def test_a_proposal_built_for_a_past_slot_is_discarded(cluster: Cluster) -> None:
    proposal = cluster.make_proposal(0, 1, (), b"")
    effects = cluster.step(
        0,
        ProposalBuilt(epoch=Epoch(0), height=Height(1), view=View(7), proposal=proposal, digest=DIGEST),
    )
    assert not effects.send
    assert [type(action).__name__ for action in effects.apply] == ["Discard"]


def test_only_the_primary_builds_and_only_once_at_a_time(cluster: Cluster) -> None:
    cluster.down |= {0, 1, 2, 3}
    transaction = cluster.submit(b"a")
    for replica in range(4):
        effects = cluster.replicas[replica].step(PendingChanged(oldest=transaction))
        assert [isinstance(action, Build) for action in effects.apply] == ([True] if replica == 0 else [])
    assert cluster.replicas[0].step(PendingChanged(oldest=DIGEST)) == Effects()

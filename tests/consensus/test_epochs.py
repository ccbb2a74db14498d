"""Epochs: the old set certifies the change, and everybody finds the new one without an operator (rule E4)."""

from __future__ import annotations

import hashlib
import random
from typing import Any, TypeAlias

import msgspec
import pytest

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.effects import RequestSync
from consensus.events import MessageReceived
from consensus.journal_records import (
    PreparedRecord,
    ViewChangeRecord,
    VoteRecord,
    decode_record,
    encode_record,
)
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    Recollection,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
)
from consensus.replica_set import ReplicaId
from consensus.restoration import read_journal
from crypto import tags

ClusterType: TypeAlias = Any


def commit_blocks(cluster: ClusterType, count: int, *replicas: int, label: str = "") -> None:
    """One transaction after the other, each in a block of its own."""
    for _ in range(count):
        cluster.submit(b"%s transaction %d" % (label.encode(), len(cluster.pending)), *replicas)
        cluster.run(400)


def get_voters(cluster: ClusterType, height: int) -> set[int]:
    """Who has signed votes for a height, as the wire showed."""
    voters = {m.replica for m in cluster.get_sent(Vote) if m.height == height}
    return voters | {m.primary for m in cluster.get_sent(PrePrepare) if m.height == height}


def isolate(cluster: ClusterType, *replicas: int) -> None:
    """Nobody hears them and they hear nobody."""
    cluster.drops.append(lambda sender, target, _: (sender in replicas) != (target in replicas))


def sign_status(cluster: ClusterType, replica: int, **changes: object) -> Status:
    """A STATUS as `replica` would sign it."""
    status = Status(0, 0, 0, True, False, (), (), 0, replica, bytes(64))
    status = msgspec.structs.replace(status, **changes)
    signed = compute_signed_bytes(cluster.replicas[0]._state.credentials.chain_id, status)
    return msgspec.structs.replace(status, signature=cluster.keys.sign(replica, tags.STATUS, signed))


def sign_certificate(cluster: ClusterType, epoch: int, height: int, *signers: int) -> Certificate:
    """A certificate for a block that nobody has, with the signatures of `signers`."""
    digest = hashlib.sha256(b"epoch %d height %d" % (epoch, height)).digest()
    chain_id = cluster.replicas[0]._state.credentials.chain_id
    message = compute_vote_bytes(chain_id, epoch, height, 0, Phase.COMMIT, digest)
    signatures = tuple(VoteSignature(r, cluster.keys.sign(r, tags.VOTE, message)) for r in signers)
    return Certificate(epoch, height, 0, digest, signatures)


@pytest.fixture
def growing(cluster_of: type) -> ClusterType:
    """Replicas 0 to 3 vote, 4 follows; above height 2 it votes too."""
    cluster = cluster_of(5, members=4)
    cluster.sets[2] = cluster.make_set(1, range(5))
    return cluster.boot()


def test_e4_the_old_set_certifies_the_change_and_the_new_set_all_that_follows(growing: ClusterType) -> None:
    commit_blocks(growing, 4)
    assert growing.get_heights() == [4] * 5
    growing.check_agreement()
    for height, epoch, quorum in ((1, 0, 3), (2, 0, 3), (3, 1, 4), (4, 1, 4)):
        certificate = growing.disks[0].chain[height - 1][1]
        assert certificate.epoch == epoch
        assert len(certificate.signatures) == quorum
        certificate.verify(
            growing.replicas[0]._state.credentials.chain_id, growing.get_set(height), growing.keys.verify
        )
    assert growing.refused == []


def test_who_is_no_member_follows_without_a_vote_until_a_set_names_it(growing: ClusterType) -> None:
    commit_blocks(growing, 2)
    assert growing.disks[4].height == 2
    assert 4 not in get_voters(growing, 1) | get_voters(growing, 2)
    commit_blocks(growing, 1)
    assert 4 in get_voters(growing, 3)


def test_p6_a_new_member_hears_a_quorum_before_its_first_vote(growing: ClusterType) -> None:
    growing.drops.append(lambda _, target, message: target == 4 and isinstance(message, Recollection))
    commit_blocks(growing, 3)
    assert growing.get_heights() == [3] * 5
    assert growing.replicas[4].status.is_starting
    assert 4 not in get_voters(growing, 3)
    growing.drops.clear()
    growing.run(500)
    commit_blocks(growing, 1)
    assert 4 in get_voters(growing, 4)


def test_a_follower_that_missed_votes_is_told_what_is_final(growing: ClusterType) -> None:
    growing.drops.append(lambda _, target, message: target == 4 and isinstance(message, PrePrepare | Vote))
    commit_blocks(growing, 1)
    growing.run(600)
    assert growing.disks[4].height == 1
    answers = [message for _, target, message in growing.sent if target == 4]
    assert any(isinstance(message, CommittedNotice) for message in answers)
    assert not any(isinstance(message, Recollection) for message in answers)


def test_a_removed_replica_stops_voting_and_follows(cluster: ClusterType) -> None:
    cluster.sets[2] = cluster.make_set(1, (0, 1, 2))
    commit_blocks(cluster, 5)
    assert cluster.get_heights() == [5] * 4
    assert 3 in get_voters(cluster, 2)
    assert not {3} & {voter for height in (3, 4, 5) for voter in get_voters(cluster, height)}
    status = cluster.replicas[3].status
    assert (status.is_member, status.is_silent) == (False, True)
    assert "epoch 1" in status.silent_reason
    assert cluster.refused == []


def test_a_removed_replica_takes_no_part_in_view_changes(cluster_of: type) -> None:
    cluster = cluster_of(5)
    cluster.sets[1] = cluster.make_set(1, range(4))
    cluster.boot()
    commit_blocks(cluster, 1)
    cluster.crash(0)
    cluster.submit(b"waits for a view", 1, 2, 3, 4)
    cluster.run(6_000)
    assert cluster.get_heights() == [1, 2, 2, 2, 2]
    assert 4 not in {m.replica for m in cluster.get_sent(ViewChange)}


def test_a_replica_votes_with_the_key_that_its_epoch_names_or_not_at_all(cluster_of: type) -> None:
    cluster = cluster_of(5, members=4)
    cluster.crash(4)
    cluster.sets[2] = cluster.make_set(1, range(4), key_1=cluster.keys.public[4])
    cluster.boot()
    commit_blocks(cluster, 3)
    assert 1 in get_voters(cluster, 2)
    assert 1 not in get_voters(cluster, 3)  # Its old key counts for nothing any more, and it knows.
    assert not cluster.replicas[1].status.is_member
    assert cluster.refused == []
    cluster.crash(1)
    cluster.key_of[1] = 4
    cluster.start(1)
    cluster.run(600)
    commit_blocks(cluster, 1)
    assert 1 in get_voters(cluster, 4)
    assert cluster.get_heights()[:4] == [4] * 4
    assert cluster.refused == []


def test_a_replica_behind_one_change_is_told_what_closed_its_epoch(growing: ClusterType) -> None:
    isolate(growing, 3)
    commit_blocks(growing, 4)
    assert growing.disks[3].height == 0
    growing.drops.clear()
    growing.sent.clear()
    growing.run(600)
    assert growing.get_heights() == [4] * 5
    notices = [
        m.certificate for _, target, m in growing.sent if isinstance(m, CommittedNotice) and target == 3
    ]
    assert any((certificate.epoch, certificate.height) == (0, 2) for certificate in notices)
    commit_blocks(growing, 1)
    assert 3 in get_voters(growing, 5)
    assert growing.refused == []


def test_a_replica_behind_many_changes_catches_up_without_an_operator(growing: ClusterType) -> None:
    for height, epoch in ((3, 2), (4, 3), (6, 4)):
        growing.sets[height] = growing.make_set(epoch, range(5) if epoch % 2 else range(4))
    isolate(growing, 2)
    commit_blocks(growing, 8)
    assert growing.disks[2].height == 0
    growing.drops.clear()
    growing.run(2_000)
    assert growing.get_heights() == [8] * 5
    commit_blocks(growing, 1)
    assert 2 in get_voters(growing, 9)
    assert growing.refused == []
    growing.check_agreement()


@pytest.mark.parametrize("claim", ["status", "certificate"])
def test_a_claim_of_a_later_epoch_costs_a_liar_a_request_at_a_time_and_stops_nobody(
    cluster: ClusterType, claim: str
) -> None:
    if claim == "status":
        message: Message = sign_status(cluster, 3, epoch=9, height=2**40)
    else:
        message = CommittedNotice(sign_certificate(cluster, 9, 2**40, 3))
    asked = []
    for _ in range(20):
        effects = cluster.replicas[0].step(MessageReceived(sender=ReplicaId(3), message=message))
        asked += [action for action in effects.apply if isinstance(action, RequestSync)]
    assert [(request.height, request.source) for request in asked] == [(64, 3)]
    honest = sign_status(cluster, 2, epoch=1, height=5)
    effects = cluster.replicas[0].step(MessageReceived(sender=ReplicaId(2), message=honest))
    assert [action.source for action in effects.apply if isinstance(action, RequestSync)] == [2]
    commit_blocks(cluster, 2)
    assert cluster.get_heights() == [2] * 4
    assert 0 in get_voters(cluster, 2)


def test_e4_votes_of_another_epoch_count_for_nothing(growing: ClusterType) -> None:
    commit_blocks(growing, 2)
    growing.drops.append(lambda *_: True)
    growing.submit(b"one more", 0)
    growing.deliver()
    digest = hashlib.sha256(b"anything").digest()
    replica = growing.replicas[0]
    for sender in (1, 2, 3):
        for epoch in (0, 2):
            vote = Vote(epoch, 3, 0, Phase.COMMIT, digest, sender, bytes(64))
            effects = replica.step(MessageReceived(sender=ReplicaId(sender), message=vote))
            assert all(not hasattr(action, "reason") for action in effects.apply)
    assert replica._state.log.get(3, 0).get_voters(Phase.COMMIT) == ()


def test_e4_a_view_change_of_the_epoch_before_is_answered_and_accuses_nobody(growing: ClusterType) -> None:
    isolate(growing, 3)
    growing.submit(b"only replica 3 waits for it", 3)
    commit_blocks(growing, 3)
    growing.run(3_000)
    left = growing.replicas[3].status
    assert (left.epoch, left.is_in_view_change) == (0, True)
    growing.drops.clear()
    growing.run(2_000)
    assert growing.refused == []
    assert len(set(growing.get_heights())) == 1
    assert growing.replicas[3].status.epoch == 1


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 30))]
)
def test_e4_sets_change_during_view_changes_and_nothing_is_lost_or_doubled(
    cluster_of: type, seed: int
) -> None:
    """Primaries die, messages are lost and views fail while replicas come and go."""
    choose = random.Random(seed)
    cluster = cluster_of(6, members=4, blocks_per_primary=choose.choice((1, 2, 100)))
    heights = sorted(choose.sample(range(1, 9), 3))
    for epoch, (height, members) in enumerate(
        zip(heights, ((0, 1, 2, 3, 4), (0, 1, 2, 4), (1, 2, 4, 5)), strict=True), start=1
    ):
        cluster.sets[height] = cluster.make_set(epoch, members)
    cluster.boot()
    lossy = choose.choice((0.0, 0.05, 0.2))
    cluster.drops.append(lambda *_: choose.random() < lossy)
    for number in range(12):
        cluster.submit(b"transaction %d" % number)
        victim = choose.randrange(6)
        if choose.random() < 0.4 and not cluster.down:
            cluster.crash(victim)
        cluster.run(choose.choice((50, 400, 2_500)))
        for replica in tuple(cluster.down):
            cluster.start(replica)
        cluster.check_agreement()
    cluster.drops.clear()
    cluster.run(40_000)
    while max(cluster.get_heights()) <= heights[-1]:
        commit_blocks(cluster, 1, label="later")
    cluster.run(3_000)
    assert len(set(cluster.get_heights())) == 1
    cluster.check_agreement()
    assert all(not cluster.get_pending(replica) for replica in range(6))
    assert cluster.refused == []
    assert {replica.status.epoch for replica in cluster.replicas.values()} == {3}
    for height, (_, certificate) in enumerate(cluster.disks[0].chain, start=1):
        certificate.verify(
            cluster.replicas[0]._state.credentials.chain_id, cluster.get_set(height), cluster.keys.verify
        )


@pytest.mark.parametrize("at", [1, 2, 3])
def test_e4_a_restart_on_either_side_of_a_change_goes_on_in_the_right_epoch(
    growing: ClusterType, at: int
) -> None:
    commit_blocks(growing, at)
    for replica in range(5):
        growing.crash(replica)
    for replica in range(5):
        growing.start(replica)
    assert {replica.status.epoch for replica in growing.replicas.values()} == {0 if at < 2 else 1}
    growing.run(600)
    commit_blocks(growing, 3)
    assert growing.get_heights() == [at + 3] * 5
    growing.check_agreement()


def test_e4_the_journal_of_another_epoch_binds_nobody(cluster: ClusterType) -> None:
    cluster.drops.append(lambda _, __, message: isinstance(message, Vote) and message.phase is Phase.COMMIT)
    commit_blocks(cluster, 1)
    records = [decode_record(data) for data in cluster.disks[1].journal]
    assert any(isinstance(record, VoteRecord) for record in records)
    assert any(isinstance(record, PreparedRecord) for record in records)
    own = read_journal(records, epoch=0, height=0)
    assert own.votes
    assert own.prepared is not None
    other = read_journal(records, epoch=1, height=0)
    assert other.votes == ()
    assert other.prepared is None


def lose_the_ledger(cluster: ClusterType, replica: int) -> None:
    """Back to the genesis, and so to the first epoch; the journal is whole."""
    cluster.crash(replica)
    cluster.disks[replica].chain.clear()
    cluster.start(replica)


def drop_commits(_sender: int, _target: int, message: Message) -> bool:
    return isinstance(message, Vote) and message.phase is Phase.COMMIT


@pytest.mark.parametrize("replica", [0, 3])
def test_p5_votes_of_an_epoch_that_the_ledger_lost_are_not_cast_again(
    growing: ClusterType, replica: int
) -> None:
    """Replica 0 is the primary of height 4 and would propose there anew."""
    commit_blocks(growing, 3)
    growing.drops.append(drop_commits)
    commit_blocks(growing, 1)
    assert replica in get_voters(growing, 4)
    lose_the_ledger(growing, replica)
    growing.run(600)
    status = growing.replicas[replica].status
    assert (status.epoch, status.height) == (1, 3)
    assert status.silent_reason.startswith("the ledger lost blocks above height 0: silent until height 4")
    growing.drops.clear()
    growing.run(4_000)
    commit_blocks(growing, 2)
    assert len(set(growing.get_heights())) == 1
    assert not growing.replicas[replica].status.is_silent
    growing.check_no_contradiction()


def test_p3_a_view_asked_for_in_an_epoch_that_the_ledger_lost_still_binds(growing: ClusterType) -> None:
    commit_blocks(growing, 3)
    growing.crash(0)
    growing.drops.append(lambda _, __, message: isinstance(message, NewView))
    growing.submit(b"left to the next primary")
    growing.run(2_300)
    asked = growing.replicas[3].status.asked_view
    assert asked > 0
    growing.drops.append(lambda _, __, message: isinstance(message, ViewChange | Recollection))
    lose_the_ledger(growing, 3)
    growing.run(600)
    status = growing.replicas[3].status
    assert (status.epoch, status.height) == (1, 3)
    assert status.asked_view == asked


@pytest.fixture
def outpaced(cluster_of: type) -> ClusterType:
    """Replicas 0, 1, 4 and 5 are in the second epoch at height 5 and have voted at 6; 2 and 3, the other
    founders, stopped below the block that opened it and have not heard of it."""
    cluster = cluster_of(6, members=4)
    cluster.sets[2] = cluster.make_set(1, (0, 1, 4, 5))
    cluster.boot()
    isolate(cluster, 3)
    commit_blocks(cluster, 1)
    wanted = (PrePrepare, Vote)
    cluster.drops.append(lambda _, target, m: target == 2 and not isinstance(m, wanted))
    cluster.drops.append(lambda sender, target, m: target == 2 and drop_commits(sender, target, m))
    commit_blocks(cluster, 1)
    isolate(cluster, 2)
    commit_blocks(cluster, 3)
    cluster.drops.append(drop_commits)
    commit_blocks(cluster, 1)
    assert cluster.get_heights() == [5, 5, 1, 0, 5, 5]
    assert get_voters(cluster, 6) == {0, 1, 4, 5}
    return cluster


def check_heals(outpaced: ClusterType, replica: int) -> None:
    """Once everybody hears everybody it votes again, and nobody has said two things of one slot."""
    outpaced.drops.clear()
    outpaced.run(8_000)
    commit_blocks(outpaced, 3)
    assert not outpaced.replicas[replica].status.is_silent
    outpaced.check_no_contradiction()


def wipe_among_founders(outpaced: ClusterType) -> None:
    """Replica 0 has lost everything and hears only those who know little of what it has said."""
    outpaced.crash(0)
    outpaced.disks[0].journal.clear()
    outpaced.disks[0].chain.clear()
    outpaced.disks[0].is_journal_missing = True
    outpaced.start(0)
    outpaced.drops[:] = [drop_commits]
    isolate(outpaced, 0, 2, 3)
    outpaced.run(500)
    assert outpaced.replicas[0].status.silent_reason.endswith("silent until height 3 is durable")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_p6_what_members_of_a_former_epoch_remember_is_not_enough_for_the_next_one(
    outpaced: ClusterType, is_restarted: bool
) -> None:
    """The wiped replica hears those at first who know little of what it has said."""
    wipe_among_founders(outpaced)
    outpaced.drops[:] = [drop_commits, lambda _, target, m: target == 0 and isinstance(m, Recollection)]
    outpaced.run(1_500)
    if is_restarted:
        outpaced.crash(0)
        outpaced.start(0)
        outpaced.run(300)
    status = outpaced.replicas[0].status
    assert (status.epoch, status.height, status.is_starting) == (1, 5, True)
    outpaced.drops[:] = [drop_commits]
    outpaced.run(500)
    assert outpaced.replicas[0].status.is_silent
    check_heals(outpaced, 0)


def test_p6_a_certificate_of_another_epoch_silences_nobody(cluster_of: type) -> None:
    """It cannot be verified, so a liar could put the end of silence as high as it likes."""
    cluster = cluster_of(4)
    cluster.boot()
    commit_blocks(cluster, 1)
    cluster.crash(0)
    cluster.disks[0].journal.clear()
    cluster.disks[0].is_journal_missing = True
    lie = sign_certificate(cluster, 7, 2**60, 1)

    def is_recollection(sender: int, target: int, message: Message) -> bool:
        return isinstance(message, Recollection) and (sender, target) == (1, 0)

    cluster.drops.append(is_recollection)
    cluster.start(0)
    cluster.tick()
    (status, *_) = [m for s, _, m in cluster.sent if isinstance(m, Status) and s == 0 and m.session]
    forged = Recollection(status.session, 2**60, lie, None, None, 1, bytes(64))
    signed = compute_signed_bytes(cluster.replicas[0]._state.credentials.chain_id, forged)
    forged = msgspec.structs.replace(forged, signature=cluster.keys.sign(1, tags.STATUS, signed))
    cluster.step(0, MessageReceived(sender=ReplicaId(1), message=forged))
    cluster.run(600)
    assert cluster.replicas[0].status.silent_reason.endswith("silent until height 3 is durable")


def test_p6_silence_does_not_end_by_a_step_that_leads_far_into_the_next_epoch(outpaced: ClusterType) -> None:
    """Block sync tells of many blocks at once: the wiped replica passes the end of its silence and of its
    epoch in one step, and has heard nobody who knows what it said at height 6."""
    wipe_among_founders(outpaced)
    unheard = (CommittedNotice, Recollection)
    outpaced.drops[:] = [drop_commits, lambda _, target, m: target == 0 and isinstance(m, unheard)]
    outpaced.synced.clear()
    outpaced.run(1_500)
    assert (0, 5) in outpaced.synced
    status = outpaced.replicas[0].status
    assert (status.epoch, status.height, status.is_starting) == (1, 5, True)
    check_heals(outpaced, 0)


def test_p6_silence_of_an_earlier_epoch_is_decided_anew_by_a_start_in_this_one(outpaced: ClusterType) -> None:
    """A crash after the closing block is durable and before the journal says that silence is open again."""
    wipe_among_founders(outpaced)
    outpaced.crash(0)
    outpaced.disks[0].chain[:] = outpaced.disks[1].chain[:2]
    outpaced.drops[:] = [drop_commits, lambda _, target, m: target == 0 and isinstance(m, Recollection)]
    outpaced.start(0)
    outpaced.run(1_500)
    status = outpaced.replicas[0].status
    assert (status.epoch, status.height, status.is_starting) == (1, 5, True)
    check_heals(outpaced, 0)


def test_p5_a_view_change_of_an_epoch_that_the_ledger_lost_means_silence(outpaced: ClusterType) -> None:
    """The votes of the journal were durable and are gone from it; what tells of the later epoch is enough."""
    outpaced.crash(0)
    state = outpaced.replicas[0]._state
    view_change = state.credentials.sign_view_change(1, state.head.base, None)
    outpaced.disks[0].journal[:] = [encode_record(ViewChangeRecord(view_change))]
    del outpaced.disks[0].chain[1:]
    for replica in (2, 3):
        outpaced.crash(replica)
        outpaced.start(replica)
    outpaced.start(0)
    outpaced.drops[:] = [drop_commits]
    isolate(outpaced, 0, 2, 3)
    outpaced.run(500)
    assert outpaced.replicas[0].status.is_silent
    outpaced.submit(b"something else")
    outpaced.run(1_000)
    check_heals(outpaced, 0)


def test_p6_whoever_has_not_voted_since_its_start_asks_the_members_of_the_next_epoch_too(
    outpaced: ClusterType,
) -> None:
    """Rolled back to an old copy, it hears founders who know of nothing that it has forgotten."""
    outpaced.crash(1)
    outpaced.disks[1].journal.clear()
    del outpaced.disks[1].chain[1:]
    for replica in (2, 3):
        outpaced.crash(replica)
        outpaced.start(replica)
    outpaced.start(1)
    outpaced.drops[:] = [drop_commits]
    isolate(outpaced, 1, 2, 3)
    outpaced.run(250)
    status = outpaced.replicas[1].status
    assert (status.epoch, status.is_starting, status.is_silent) == (0, False, False)
    outpaced.drops[:] = [drop_commits, lambda _, target, m: target == 1 and isinstance(m, Recollection)]
    outpaced.run(1_500)
    status = outpaced.replicas[1].status
    assert (status.epoch, status.height, status.is_starting) == (1, 5, True)
    outpaced.drops[:] = [drop_commits]
    outpaced.run(500)
    assert "the journal lacks a vote at height 6" in outpaced.replicas[1].status.silent_reason
    check_heals(outpaced, 1)

"""Restarts: no vote is contradicted, no view entered without proof, and amnesia is noticed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from consensus.certificates import Phase, PreparedCertificate, VoteSignature, compute_vote_bytes
from consensus.effects import Effects
from consensus.events import MessageReceived
from consensus.journal_records import (
    NewViewRecord,
    OverrideRecord,
    PreparedRecord,
    SilenceRecord,
    decode_record,
    encode_record,
)
from consensus.messages import NewView, PrePrepare, Recollection, ViewChange, Vote
from consensus.replica_set import ReplicaId
from consensus.restoration import read_journal
from consensus.startup import Startup
from consensus.vote_guard import VoteGuard
from crypto import tags

Cluster: TypeAlias = Any
"""The fixtures' cluster, which pytest imports by file."""


@pytest.mark.parametrize("replica", [0, 2])
@pytest.mark.parametrize("point", range(1, 13))
def test_p5_killed_at_each_persist_point_of_agreement_no_vote_is_contradicted(
    cluster_of: Callable[..., Cluster], replica: int, point: int
) -> None:
    """The effects of that step are on disk, nothing of them was sent; then the replica starts again."""
    cluster = cluster_of(4).boot()
    persisted = 0

    def crash(who: int, effects: Effects) -> bool:
        nonlocal persisted
        persisted += who == replica and bool(effects.persist)
        return who == replica and bool(effects.persist) and persisted == point

    cluster.crash_before_send = crash
    for number in range(4):
        cluster.submit(b"%d" % number)
        cluster.run(100)
        if replica in cluster.down:
            cluster.start(replica)
    cluster.run(8_000)
    assert persisted >= min(point, 4)
    cluster.check_no_contradiction()
    assert len(set(cluster.get_heights())) == 1
    assert not cluster.get_pending(0)
    assert not any(r.status.is_silent for r in cluster.replicas.values())


@pytest.mark.parametrize("replica", [1, 2, 3])
@pytest.mark.parametrize("point", range(1, 9))
def test_v10_killed_at_each_step_of_a_view_change_no_view_is_entered_without_proof(
    cluster_of: Callable[..., Cluster], replica: int, point: int
) -> None:
    cluster = cluster_of(4).boot()
    cluster.drops.append(lambda s, t, m: isinstance(m, PrePrepare) and m.view == 0)
    persisted = 0

    def crash(who: int, effects: Effects) -> bool:
        nonlocal persisted
        persisted += who == replica and bool(effects.persist)
        return who == replica and bool(effects.persist) and persisted == point

    cluster.crash_before_send = crash
    cluster.submit(b"a")
    was_down = False
    for _ in range(60):
        cluster.run(200)
        if replica in cluster.down:
            was_down = True
            cluster.start(replica)
            status = cluster.replicas[replica].status
            records = [decode_record(data) for data in cluster.disks[replica].journal]
            proofs = [r.new_view.view for r in records if isinstance(r, NewViewRecord)]
            certificates = [c.view for _, c in cluster.disks[replica].chain]
            assert status.view in (0, *proofs, *certificates)
    assert was_down or persisted < point
    cluster.check_no_contradiction()
    assert min(cluster.get_heights()) >= 1
    assert cluster.check_agreement() is None


def test_p5_after_a_restart_another_proposal_for_a_voted_slot_gets_no_vote(cluster: Cluster) -> None:
    """The primary equivocates towards a backup that has just come back; later views are not concerned."""
    cluster.drops.append(lambda s, t, m: isinstance(m, Vote) and m.view == 0)
    cluster.submit(b"a")
    cluster.deliver()
    voted = cluster.get_sent(Vote, 3)[0].digest
    cluster.crash(3)
    cluster.start(3)
    cluster.drops.append(lambda s, t, m: isinstance(m, PrePrepare) and m.view == 0)
    cluster.run(300)
    assert not cluster.replicas[3].status.is_starting
    cluster.sent.clear()
    proposal = cluster.make_proposal(0, 1, (), b"another block")
    digest = hashlib.sha256(proposal.header).digest()
    signed = compute_vote_bytes(hashlib.sha256(b"test chain").digest(), 0, 1, 0, Phase.PRE_PREPARE, digest)
    message = PrePrepare(0, 1, 0, proposal.header, (), 0, cluster.keys.sign(0, tags.VOTE, signed))
    cluster.validations.clear()
    cluster.step(3, MessageReceived(sender=ReplicaId(0), message=message))
    assert [validate.digest for _, validate in cluster.validations] == [digest]
    cluster.run(600)  # Its votes go out again in answer to STATUS: the old one only.
    assert {vote.digest for vote in cluster.get_sent(Vote, 3)} == {voted}
    cluster.crash(0)
    cluster.run(6_000)
    assert cluster.get_heights()[3] >= 1
    cluster.check_agreement()


def test_v10_after_a_restart_a_view_change_under_way_is_taken_up_again(cluster: Cluster) -> None:
    cluster.drops.append(lambda s, t, m: isinstance(m, NewView) and t == 3)
    cluster.crash(0)
    cluster.submit(b"a")
    cluster.run(2_200)
    cluster.crash(3)
    cluster.start(3)
    status = cluster.replicas[3].status
    assert (status.view, status.asked_view, status.is_in_view_change) == (0, 1, True)
    cluster.drops.clear()
    cluster.start(0)
    cluster.run(2_000)
    assert cluster.replicas[3].status.view == 1
    assert cluster.get_heights() == [1] * 4


def test_a_prepared_block_survives_a_power_cut_of_all(cluster: Cluster) -> None:
    """Everybody had prepared, nobody had committed; afterwards that very block is committed."""
    cluster.drops.append(lambda s, t, m: isinstance(m, Vote) and m.phase is Phase.COMMIT)
    cluster.submit(b"a")
    cluster.deliver()
    digest = cluster.get_sent(Vote)[0].digest
    for replica in range(4):
        cluster.crash(replica)
    cluster.drops.clear()
    for replica in range(4):
        cluster.start(replica)
    cluster.run(1_500)
    assert [cluster.get_digest(r, 1) for r in range(4)] == [digest] * 4
    cluster.check_no_contradiction()


@pytest.mark.parametrize("views", [(0, 2, 1), (2, 1, 0)])
def test_p2_a_restart_takes_up_what_was_prepared_in_the_highest_view(views: tuple[int, ...]) -> None:
    """Its next VIEW-CHANGE must tell of that; an older one would let another block in its place."""
    signatures = (VoteSignature(0, bytes(64)),)
    records = [
        PreparedRecord(PreparedCertificate(0, 1, view, bytes([view]) * 32, 0, signatures)) for view in views
    ]
    other_height = PreparedRecord(PreparedCertificate(0, 2, 9, bytes(32), 0, signatures))
    memory = read_journal([*records, other_height], epoch=0, height=0)
    assert memory.prepared is not None
    assert (memory.prepared.height, memory.prepared.view) == (1, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_a_new_network_of_empty_journals_begins_to_work(
    cluster_of: Callable[..., Cluster], count: int
) -> None:
    cluster = cluster_of(count)
    assert [r.status.is_starting for r in cluster.replicas.values()] == [True] * count
    cluster.submit(b"a")
    cluster.run(1_000)
    assert cluster.get_heights() == [1] * count


def test_p6_before_its_first_vote_a_replica_hears_a_quorum(cluster: Cluster) -> None:
    for replica in range(4):
        cluster.crash(replica)
    cluster.start(0)
    cluster.start(1)
    cluster.submit(b"a")
    cluster.run(10_000)
    assert cluster.replicas[0].status.is_starting
    assert not cluster.get_sent(PrePrepare)
    assert not cluster.get_sent(ViewChange)
    cluster.start(2)
    cluster.run(1_000)
    assert not cluster.replicas[0].status.is_starting
    assert cluster.get_heights() == [1, 1, 1, 0]


def test_p6_a_replica_without_journal_is_silent_until_its_old_votes_cannot_matter(
    cluster: Cluster,
) -> None:
    cluster.submit(b"a")
    cluster.deliver()
    cluster.crash(3)
    cluster.disks[3].journal.clear()
    cluster.disks[3].chain.clear()
    cluster.disks[3].is_journal_missing = True
    cluster.start(3)
    cluster.run(1_000)
    status = cluster.replicas[3].status
    assert status.is_silent
    assert "until height 3" in status.silent_reason
    assert status.height == 1
    cluster.sent.clear()
    cluster.submit(b"b")
    cluster.run(500)
    assert not cluster.get_sent(Vote, 3)
    cluster.submit(b"c")
    cluster.run(500)
    assert cluster.get_heights() == [3] * 4
    assert not cluster.replicas[3].status.is_silent
    cluster.submit(b"d")
    cluster.run(500)
    assert cluster.get_sent(Vote, 3)
    cluster.check_no_contradiction()


def test_p6_silence_is_counted_from_the_highest_block_that_others_report(cluster: Cluster) -> None:
    """Not from its own head: block sync has brought nothing yet when it decides."""
    for transaction in (b"a", b"b", b"c"):
        cluster.submit(transaction)
        cluster.deliver()
    cluster.crash(3)
    cluster.disks[3].journal.clear()
    cluster.disks[3].chain.clear()
    cluster.disks[3].is_journal_missing = True
    cluster.sync = lambda *_: None
    cluster.start(3)
    cluster.run(1_000)
    assert cluster.replicas[3].status.height == 0
    assert "until height 5" in cluster.replicas[3].status.silent_reason


def test_p6_silence_is_counted_from_a_vote_of_its_own_that_others_remember(cluster: Cluster) -> None:
    """They may be behind: who voted at height 9 had height 8 durable, so it may vote again from 10 on."""
    credentials = cluster.replicas[3]._state.credentials
    startup = Startup(journal_missing=True, silent_until=None)
    startup.begin(77)
    vote = credentials.sign_vote(9, 0, Phase.PREPARE, bytes(32))
    for replica in (0, 1):
        startup.add(Recollection(77, 0, None, vote, None, replica, bytes(64)))
    assert startup.try_decide(credentials, VoteGuard(), view=0, height=0)
    assert startup.silent_until == 10


def test_p6_a_rolled_back_directory_is_noticed_by_a_vote_that_others_remember(cluster: Cluster) -> None:
    cluster.submit(b"a")
    cluster.deliver()
    copy = list(cluster.disks[3].journal)
    cluster.drops.append(lambda s, t, m: isinstance(m, Vote) and m.phase is Phase.COMMIT)
    cluster.submit(b"b")
    cluster.deliver()
    cluster.crash(3)
    cluster.disks[3].journal = copy
    cluster.start(3)
    cluster.run(600)
    status = cluster.replicas[3].status
    assert status.is_silent
    assert "lacks a vote at height 2" in status.silent_reason


def test_p6_silence_survives_a_restart(cluster: Cluster) -> None:
    cluster.crash(3)
    cluster.disks[3].is_journal_missing = True
    cluster.disks[3].journal.clear()
    cluster.start(3)
    cluster.run(20)
    assert decode_record(cluster.disks[3].journal[0]) == SilenceRecord(0)
    cluster.crash(3)
    cluster.start(3)
    cluster.run(600)
    assert cluster.replicas[3].status.is_silent
    cluster.crash(3)
    cluster.start(3)
    cluster.run(600)
    assert cluster.replicas[3].status.is_silent


def test_p6_silence_that_is_over_does_not_come_back_while_its_records_are_in_the_file(
    cluster: Cluster,
) -> None:
    cluster.crash(3)
    cluster.disks[3].is_journal_missing = True
    cluster.disks[3].journal.clear()
    cluster.start(3)
    cluster.run(600)
    # A journal file keeps what it needs no longer until it is rewritten.
    records = [decode_record(data) for data in cluster.disks[3].journal]
    assert [r for r in records if isinstance(r, SilenceRecord)] == [SilenceRecord(0), SilenceRecord(2)]
    file = list(cluster.disks[3].journal)
    for transaction in (b"a", b"b"):
        cluster.submit(transaction)
        cluster.run(600)
    assert not cluster.replicas[3].status.is_silent
    for replica in range(4):
        cluster.crash(replica)
    cluster.disks[3].journal[:0] = file
    for replica in range(4):
        cluster.start(replica)
    cluster.run(600)
    assert not cluster.replicas[3].status.is_silent


def test_p3_a_view_change_remembered_by_others_is_journaled_before_it_goes_out_again(
    cluster: Cluster,
) -> None:
    cluster.crash(0)
    cluster.drops.append(lambda s, t, m: isinstance(m, NewView))
    cluster.submit(b"a")
    cluster.run(2_300)
    cluster.crash(3)
    cluster.disks[3].is_journal_missing = True
    cluster.disks[3].journal.clear()
    cluster.start(3)
    cluster.start(0)
    cluster.run(600)
    assert cluster.replicas[3].status.asked_view == 1
    cluster.crash(3)
    cluster.start(3)
    assert cluster.replicas[3].status.asked_view == 1


def test_p6_a_ledger_that_was_rolled_back_under_its_journal_is_noticed_by_the_journal_itself(
    cluster: Cluster,
) -> None:
    """LevelDB opens a truncated log without complaint: no VIEW-CHANGE may lack what is gone."""
    for transaction in (b"a", b"b"):
        cluster.submit(transaction)
        cluster.deliver()
    cluster.drops.append(lambda s, t, m: isinstance(m, Vote) and m.phase is Phase.COMMIT)
    cluster.submit(b"c")
    cluster.deliver()
    cluster.drops.append(lambda s, t, m: s != 3 and not isinstance(m, (ViewChange, Recollection)))
    cluster.crash(3)
    del cluster.disks[3].chain[1:]
    cluster.start(3)
    cluster.sent.clear()
    cluster.run(6_000)
    assert cluster.get_sent(ViewChange, sender=1)
    assert not [m for m in cluster.get_sent(ViewChange, sender=3) if m.base is None or m.base.height < 2]
    assert "lost blocks above height 1" in cluster.replicas[3].status.silent_reason
    cluster.drops.clear()
    cluster.run(6_000)
    assert cluster.get_heights() == [3] * 4
    assert not cluster.replicas[3].status.is_silent
    cluster.check_agreement()


def test_p6_nobody_is_silenced_by_a_vote_that_it_never_cast(cluster: Cluster) -> None:
    """A liar invents a vote of the starting replica, and a height."""
    forged = Vote(0, 90, 3, Phase.COMMIT, bytes(32), 3, bytes(64))
    cluster.crash(3)
    cluster.replicas[1]._state.log.latest[3] = forged
    cluster.start(3)
    cluster.run(600)
    assert any(isinstance(m, Recollection) and m.vote == forged for m in cluster.get_sent(Recollection))
    status = cluster.replicas[3].status
    assert not status.is_silent
    assert not status.is_starting


def test_p6_an_operator_can_end_the_silence_and_that_counts_for_one_height(cluster: Cluster) -> None:
    cluster.submit(b"first")
    cluster.run(500)
    cluster.crash(3)
    cluster.disks[3].journal = [encode_record(OverrideRecord(1, 1_700_000_000_000, "a test of the operator"))]
    cluster.start(3)
    cluster.crash(2)
    cluster.submit(b"second")
    cluster.run(3_000)
    assert cluster.get_heights() == [2, 2, 1, 2]  # Without replica 3 there is no quorum.
    cluster.crash(3)
    cluster.disks[3].journal = cluster.disks[3].journal[:1]
    cluster.start(3)
    cluster.tick()
    assert cluster.replicas[
        3
    ].status.is_starting  # The override was for height 1; the others are asked again.


def test_p6_an_answer_to_an_earlier_start_is_not_taken_for_this_one(cluster: Cluster) -> None:
    cluster.crash(3)
    cluster.start(3)
    cluster.run(300)
    old = cluster.get_sent(Recollection)[0]
    cluster.crash(3)
    cluster.start(3)
    cluster.now_ms += 5
    startup = cluster.replicas[3]._state.startup
    startup.begin(77)
    assert startup.add(old) is False


def run_schedule(cluster_of: Callable[..., Cluster], seed: int, count: int) -> int:
    """Loss, partitions, and crashes at persist points; then everything heals. The time to recover."""
    rng = random.Random(seed)
    cluster = cluster_of(count, blocks_per_primary=rng.choice([1, 2, 100]))
    loss, cut, is_faulty = rng.choice([0, 0.05, 0.2, 0.5]), set[int](), True

    def drop(sender: int, target: int, message: Any) -> bool:
        return is_faulty and (rng.random() < loss or (sender in cut) != (target in cut))

    cluster.drops.append(drop)
    cluster.crash_before_send = lambda who, e: is_faulty and bool(e.persist) and rng.random() < 0.02
    for number in range(80):
        chance = rng.random()
        if chance < 0.4:
            cluster.submit(b"%d" % number, *rng.sample(range(count), rng.randint(1, count)))
        elif chance < 0.45:
            cluster.crash(rng.randrange(count))
        elif chance < 0.6:
            for replica in list(cluster.down):
                cluster.start(replica)
        elif chance < 0.65:
            cut = set(rng.sample(range(count), rng.randint(0, count)))
        cluster.run(rng.choice([50, 200, 1_000]))
    is_faulty = False
    for replica in list(cluster.down):
        cluster.start(replica)
    healed_ms = cluster.now_ms
    cluster.submit(b"last")
    while any(cluster.get_pending(replica) for replica in range(count)):
        cluster.run(500)
        assert cluster.now_ms - healed_ms < 60_000, f"seed {seed}: no progress after healing"
    cluster.check_no_contradiction()
    assert not cluster.refused, f"seed {seed}: {cluster.refused[0]}"
    return int(cluster.now_ms - healed_ms)


@pytest.mark.parametrize("seed", range(8))
def test_faults_of_all_kinds_leave_agreement_and_progress(
    cluster_of: Callable[..., Cluster], seed: int
) -> None:
    run_schedule(cluster_of, seed, [4, 4, 4, 1, 2, 3, 5, 7][seed])


@pytest.mark.slow
def test_many_schedules_of_faults_leave_agreement_and_progress(cluster_of: Callable[..., Cluster]) -> None:
    for seed in range(1_000, 1_060):
        run_schedule(cluster_of, seed, [4, 4, 4, 1, 2, 3, 5, 7][seed % 8])

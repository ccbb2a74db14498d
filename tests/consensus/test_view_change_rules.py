"""How views change: the rules V4 to V11 and L1 to L3, and repair of what was lost on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
import pytest

from consensus.certificates import Certificate, Phase, PreparedCertificate, VoteSignature, compute_vote_bytes
from consensus.effects import Effects
from consensus.events import MessageReceived, PendingChanged
from consensus.journal_records import NewViewRecord, ViewChangeRecord, decode_record
from consensus.messages import (
    CommittedNotice,
    NewView,
    PrePrepare,
    ProposalRequest,
    ProposalResponse,
    ViewChange,
    Vote,
    compute_signed_bytes,
)
from consensus.primary_watch import BLOCKS
from consensus.replica_set import VIEW_MAX, ReplicaId
from consensus.view_changer import REJOIN_VIEWS_MAX
from crypto import tags

Cluster: TypeAlias = Any
"""The fixtures' cluster, which pytest imports by file."""

CHAIN_ID = hashlib.sha256(b"test chain").digest()
DIGEST = bytes(31) + b"\x01"
TIMEOUT_MS = 2_000


def receive(cluster: Cluster, target: int, sender: int, message: Any) -> Effects:
    effects: Effects = cluster.step(target, MessageReceived(sender=ReplicaId(sender), message=message))
    return effects


def sign_prepared(cluster: Cluster, height: int, view: int, digest: bytes) -> PreparedCertificate:
    primary = view % cluster.count
    signatures = []
    for replica in range(3):
        signer = (primary + replica) % cluster.count
        phase = Phase.PRE_PREPARE if signer == primary else Phase.PREPARE
        message = compute_vote_bytes(CHAIN_ID, 0, height, view, phase, digest)
        signatures.append(VoteSignature(signer, cluster.keys.sign(signer, tags.VOTE, message)))
    return PreparedCertificate(0, height, view, digest, primary, tuple(signatures))


def sign_view_change(
    cluster: Cluster,
    replica: int,
    view: int,
    prepared: PreparedCertificate | None = None,
    base: Certificate | None = None,
) -> ViewChange:
    unsigned = ViewChange(0, view, base, prepared, replica, bytes(64))
    signed = compute_signed_bytes(CHAIN_ID, unsigned)
    return msgspec.structs.replace(unsigned, signature=cluster.keys.sign(replica, tags.VIEW_CHANGE, signed))


def sign_new_view(cluster: Cluster, replica: int, view: int, view_changes: tuple[ViewChange, ...]) -> NewView:
    unsigned = NewView(0, view, view_changes, replica, bytes(64))
    signed = compute_signed_bytes(CHAIN_ID, unsigned)
    return msgspec.structs.replace(unsigned, signature=cluster.keys.sign(replica, tags.NEW_VIEW, signed))


def get_views(cluster: Cluster) -> list[int]:
    return [cluster.replicas[replica].status.view for replica in range(cluster.count)]


def get_asked(cluster: Cluster) -> list[int]:
    return [cluster.replicas[replica].status.asked_view for replica in range(cluster.count)]


def is_vote(message: Any, phase: Phase, view: int) -> bool:
    return isinstance(message, Vote) and (message.phase, message.view) == (phase, view)


def prepare_without_committing(cluster: Cluster) -> bytes:
    """Everybody prepares a block in view 0, where no COMMIT ever arrives; the digest of the block."""
    cluster.drops.append(lambda s, t, m: is_vote(m, Phase.COMMIT, 0))
    cluster.submit(b"a")
    cluster.deliver()
    digests = {vote.digest for vote in cluster.get_sent(Vote)}
    assert len(digests) == 1
    digest: bytes = digests.pop()
    return digest


def test_a_dead_primary_is_replaced_after_the_timeout_and_not_before(cluster: Cluster) -> None:
    cluster.crash(0)
    cluster.submit(b"a")
    cluster.run(TIMEOUT_MS - 100)
    assert get_asked(cluster)[1:] == [0, 0, 0]
    assert {target for _, target in cluster.forwarded} == {0}
    cluster.run(300)
    assert get_views(cluster)[1:] == [1, 1, 1]
    assert cluster.get_heights() == [0, 1, 1, 1]
    cluster.start(0)
    cluster.run(1_000)
    assert cluster.get_heights() == [1] * 4
    cluster.check_agreement()


def test_v4_a_poisoned_view_change_voids_only_itself(cluster: Cluster) -> None:
    cluster.crash(0)
    poisoned = msgspec.structs.replace(sign_prepared(cluster, 1, 0, DIGEST), digest=bytes(31) + b"\x09")
    receive(cluster, 1, 3, sign_view_change(cluster, 3, 1, poisoned))
    assert "prepared certificate" in cluster.refused[0][1].reason
    assert get_asked(cluster)[1] == 0
    for sender in (2, 3):
        receive(cluster, 1, sender, sign_view_change(cluster, sender, 1))
    assert get_views(cluster)[1] == 1


@pytest.mark.parametrize(
    "prepared",
    [
        lambda c: sign_prepared(c, 2, 0, DIGEST),
        lambda c: sign_prepared(c, 1, 1, DIGEST),
        lambda c: msgspec.structs.replace(sign_prepared(c, 1, 0, DIGEST), epoch=1),
        lambda c: msgspec.structs.replace(
            sign_prepared(c, 1, 0, DIGEST), signatures=sign_prepared(c, 1, 0, DIGEST).signatures[:2]
        ),
    ],
    ids=["another height", "not a lower view", "another epoch", "too few signers"],
)
def test_v4_a_view_change_whose_parts_do_not_fit_is_refused(
    cluster: Cluster, prepared: Callable[[Any], Any]
) -> None:
    receive(cluster, 1, 2, sign_view_change(cluster, 2, 1, prepared(cluster)))
    assert len(cluster.refused) == 1
    assert not cluster.replicas[1]._state.views.changes.latest


def test_v4_a_view_change_on_a_forged_base_is_refused(cluster: Cluster) -> None:
    """Believed, it would lift the base of the new view above all that is prepared."""
    message = compute_vote_bytes(CHAIN_ID, 0, 7, 0, Phase.COMMIT, DIGEST)
    signature = cluster.keys.sign(2, tags.VOTE, message)
    base = Certificate(0, 7, 0, DIGEST, tuple(VoteSignature(replica, signature) for replica in (1, 2, 3)))
    receive(cluster, 1, 2, sign_view_change(cluster, 2, 1, base=base))
    assert len(cluster.refused) == 1
    assert not cluster.replicas[1]._state.views.changes.latest


def test_v5_a_new_view_with_altered_contents_is_refused(cluster: Cluster) -> None:
    changes = tuple(sign_view_change(cluster, replica, 1) for replica in (1, 2, 3))
    alterations: list[NewView] = [
        sign_new_view(cluster, 1, 1, changes[:2]),
        sign_new_view(cluster, 1, 1, (changes[0], changes[1], changes[1])),
        sign_new_view(cluster, 2, 1, changes),
        sign_new_view(cluster, 1, 2, changes),
        sign_new_view(cluster, 1, 1, (*changes[:2], msgspec.structs.replace(changes[2], view=2))),
        sign_new_view(
            cluster, 1, 1, (*changes[:2], msgspec.structs.replace(changes[2], signature=bytes(64)))
        ),
        msgspec.structs.replace(sign_new_view(cluster, 1, 1, changes), signature=bytes(64)),
    ]
    for number, altered in enumerate(alterations):
        cluster.replicas[3]._view_changer._budgets.clear()
        effects = receive(cluster, 3, 1, altered)
        assert not effects.persist
        assert len(cluster.refused) == number + 1
        assert cluster.replicas[3].status.view == 0
    cluster.replicas[3]._view_changer._budgets.clear()
    receive(cluster, 3, 1, sign_new_view(cluster, 1, 1, changes))
    assert cluster.replicas[3].status.view == 1


def test_v5_a_new_primary_that_ignores_the_prepared_block_gets_no_votes(cluster: Cluster) -> None:
    digest = prepare_without_committing(cluster)
    prepared = cluster.replicas[2]._state.agreement.prepared
    assert prepared.digest == digest
    changes = tuple(sign_view_change(cluster, r, 1, prepared if r == 2 else None) for r in (1, 2, 3))
    receive(cluster, 3, 1, sign_new_view(cluster, 1, 1, changes))
    other = cluster.make_proposal(1, 1, (), b"another block")
    other_digest = hashlib.sha256(b"\x00".join((other.header,))).digest()
    message = compute_vote_bytes(CHAIN_ID, 0, 1, 1, Phase.PRE_PREPARE, other_digest)
    signature = cluster.keys.sign(1, tags.VOTE, message)
    effects = receive(cluster, 3, 1, PrePrepare(0, 1, 1, other.header, (), 1, signature))
    assert effects == Effects()


def test_v5_nobody_votes_at_or_below_the_base_of_its_view(cluster: Cluster) -> None:
    """Height 1 is final, and replica 3 never saw its block. View 1 starts from height 1, so what is prepared
    there does not bind it; a vote there could help another block to become final."""
    cluster.drops.append(lambda s, t, m: t != 0 and is_vote(m, Phase.COMMIT, 0))
    cluster.drops.append(
        lambda s, t, m: isinstance(m, CommittedNotice) or (t == 3 and isinstance(m, PrePrepare))
    )
    cluster.submit(b"a")
    cluster.deliver()
    assert cluster.get_heights() == [1, 0, 0, 0]
    base, prepared = cluster.disks[0].chain[0][1], cluster.replicas[2]._state.agreement.prepared
    cluster.drops.append(lambda *_: True)  # Block sync does not come through either.
    changes = (
        sign_view_change(cluster, 0, 1, base=base),
        sign_view_change(cluster, 1, 1),
        sign_view_change(cluster, 2, 1, prepared),
    )
    receive(cluster, 3, 1, sign_new_view(cluster, 1, 1, changes))
    assert cluster.replicas[3].status.view == 1
    other = cluster.make_proposal(1, 1, (), b"another block")
    digest = hashlib.sha256(other.header).digest()
    signed = compute_vote_bytes(CHAIN_ID, 0, 1, 1, Phase.PRE_PREPARE, digest)
    signature = cluster.keys.sign(1, tags.VOTE, signed)
    cluster.sent.clear()
    receive(cluster, 3, 1, PrePrepare(0, 1, 1, other.header, (), 1, signature))
    assert not cluster.get_sent(Vote, 3)
    cluster.drops.clear()
    cluster.run(3_000)
    assert len({cluster.get_digest(replica, 1) for replica in range(4)}) == 1


def test_v6_a_new_primary_fetches_the_prepared_proposal_it_misses(cluster: Cluster) -> None:
    cluster.drops.append(lambda s, t, message: t == 1 and isinstance(message, PrePrepare))
    cluster.drops.append(lambda s, t, message: getattr(message, "phase", None) is Phase.COMMIT)
    cluster.submit(b"a")
    cluster.deliver()
    digest = cluster.get_sent(Vote)[0].digest
    cluster.crash(0)
    cluster.drops.clear()
    cluster.run(TIMEOUT_MS + 3_000)
    assert cluster.get_sent(ProposalRequest, 1)
    assert cluster.get_sent(ProposalResponse)
    assert [cluster.get_digest(r, 1) for r in (1, 2, 3)] == [digest] * 3
    assert get_views(cluster)[1] == 1


def test_v6_a_wrong_proposal_in_an_answer_is_not_taken(cluster: Cluster) -> None:
    changes = tuple(sign_view_change(cluster, r, 1, sign_prepared(cluster, 1, 0, DIGEST)) for r in (0, 2, 3))
    for change in changes:
        receive(cluster, 1, change.replica, change)
    assert get_views(cluster)[1] == 1
    effects = receive(cluster, 1, 2, ProposalResponse(b"something else", ()))
    assert effects == Effects()


def test_v7_a_prepared_block_is_proposed_again_byte_for_byte_and_without_a_freshness_check(
    cluster: Cluster,
) -> None:
    digest = prepare_without_committing(cluster)
    first = cluster.get_sent(PrePrepare, 0)[0]
    cluster.crash(0)
    cluster.validations.clear()
    cluster.run(TIMEOUT_MS + 1_000)
    again = cluster.get_sent(PrePrepare, 1)[0]
    assert (again.header, again.transaction_hashes) == (first.header, first.transaction_hashes)
    assert [cluster.get_digest(r, 1) for r in (1, 2, 3)] == [digest] * 3
    assert all(validate.freshness is None for _, validate in cluster.validations if validate.height == 1)


def test_v7_two_locks_do_not_block_each_other(cluster: Cluster) -> None:
    """Replica 3 alone is prepared for A in view 0; then B is prepared in view 1, by replica 2 alone.

    Whoever kept to the older lock, or unlocked by timeout, would stop or fork here. A may not have committed,
    so view 1 may choose B when its quorum does not know A; view 2 must choose B, and replica 3 must follow.
    """
    cluster.drops.append(lambda s, t, m: is_vote(m, Phase.COMMIT, 0) or is_vote(m, Phase.COMMIT, 1))
    cluster.drops.append(lambda s, t, m: t != 3 and is_vote(m, Phase.PREPARE, 0))
    cluster.drops.append(lambda s, t, m: t != 2 and is_vote(m, Phase.PREPARE, 1))
    cluster.submit(b"a")
    cluster.deliver()
    lock_a = cluster.replicas[3]._state.agreement.prepared
    assert lock_a is not None
    assert [cluster.replicas[r]._state.agreement.prepared for r in (0, 1, 2)] == [None] * 3
    cluster.drops.append(lambda s, t, m: 3 in (s, t))  # View 1 begins without replica 3,
    cluster.run(TIMEOUT_MS + 500)
    lock_b = cluster.replicas[2]._state.agreement.prepared
    assert lock_b is not None
    assert (lock_a.view, lock_b.view) == (0, 1)
    assert lock_a.digest != lock_b.digest
    cluster.drops.clear()  # and everybody meets again, but for replica 0: nothing goes on without replica 3.
    cluster.crash(0)
    cluster.run(30_000)
    cluster.check_agreement()
    assert min(cluster.get_heights()[1:]) >= 1
    assert cluster.get_digest(3, 1) == lock_b.digest


def test_v7_votes_never_fall_below_a_view_that_was_asked_for(cluster: Cluster) -> None:
    for sender in (2, 3):
        receive(cluster, 1, sender, sign_view_change(cluster, sender, 5))
    assert get_asked(cluster)[1] == 5
    cluster.sent.clear()
    cluster.drops.append(lambda s, t, m: isinstance(m, ViewChange | NewView))
    cluster.queue.clear()
    cluster.submit(b"a")
    cluster.deliver()
    assert cluster.get_heights()[0] == 1  # The others go on in view 0, and replica 1 follows silently.
    cluster.run(500)
    assert cluster.get_heights() == [1] * 4
    cluster.submit(b"b")
    cluster.deliver()
    assert cluster.get_heights()[0] == 2
    assert not cluster.get_sent(Vote, 1)


def test_v8_one_replica_alone_moves_nobody_however_high_it_asks(cluster: Cluster) -> None:
    for view in (1, 7, VIEW_MAX):
        receive(cluster, 1, 3, sign_view_change(cluster, 3, view))
    assert get_asked(cluster) == [0] * 4
    assert not cluster.refused
    cluster.run(200_000, 1_000)
    assert max(get_asked(cluster)) <= REJOIN_VIEWS_MAX


def test_v8_one_replica_alone_causes_a_view_change_only_now_and_then(cluster: Cluster) -> None:
    """A faulty replica asks for one view more whenever the others have joined it."""
    for _ in range(240):
        view = max(get_asked(cluster)[:3]) + 1
        for target in (0, 1, 2):
            receive(cluster, target, 3, sign_view_change(cluster, 3, view))
        cluster.run(1_000, 1_000)
    assert 1 <= max(get_views(cluster)) <= 240_000 // (4 * cluster.settings.rejoin_timeout_ms) + 1


def test_d1_one_peers_view_changes_cost_a_bounded_number_of_signatures(cluster: Cluster) -> None:
    before = cluster.keys.verified
    for view in range(1, 500):
        receive(cluster, 1, 3, sign_view_change(cluster, 3, view))
    assert cluster.keys.verified - before == cluster.settings.view_changes_per_interval
    receive(cluster, 1, 2, sign_view_change(cluster, 2, 4))
    assert get_asked(cluster)[1] == 4, "another peer's budget is its own"


def test_d1_a_prepared_proposal_is_served_at_a_pace(cluster: Cluster) -> None:
    digest = prepare_without_committing(cluster)
    sent = [receive(cluster, 3, 1, ProposalRequest(0, 1, digest)).send for _ in range(20)]
    assert [len(one) for one in sent] == [1] + [0] * 19


def test_v8_at_the_highest_view_nothing_overflows(cluster: Cluster) -> None:
    for sender in (2, 3):
        receive(cluster, 1, sender, sign_view_change(cluster, sender, VIEW_MAX))
    cluster.deliver()
    assert get_asked(cluster)[1] == VIEW_MAX
    cluster.submit(b"a")
    cluster.run(60_000, 500)
    cluster.check_agreement()
    # No view lies above it to ask for; the three others are a quorum, and the fourth follows them.
    assert get_asked(cluster) == [0, VIEW_MAX, 0, 0]
    assert [cluster.get_pending(replica) for replica in range(4)] == [[]] * 4


def test_v9_the_smallest_view_that_more_than_f_ask_for_is_joined(cluster: Cluster) -> None:
    receive(cluster, 1, 3, sign_view_change(cluster, 3, 9))
    receive(cluster, 1, 2, sign_view_change(cluster, 2, 4))
    assert get_asked(cluster)[1] == 4


def test_v9_a_view_change_whose_first_messages_were_all_lost_converges(cluster: Cluster) -> None:
    lost: set[tuple[int, int, int]] = set()

    def lose_first(sender: int, target: int, message: Any) -> bool:
        if not isinstance(message, ViewChange | NewView):
            return False
        key = (sender, target, message.view)
        is_first = key not in lost
        lost.add(key)
        return is_first

    cluster.drops.append(lose_first)
    cluster.crash(0)
    cluster.submit(b"a")
    cluster.run(TIMEOUT_MS + 3_000)
    assert len(lost) >= 6
    assert cluster.get_heights() == [0, 1, 1, 1]


def test_v10_no_view_is_entered_with_fewer_view_changes_than_a_quorum(cluster: Cluster) -> None:
    receive(cluster, 1, 2, sign_view_change(cluster, 2, 1))
    assert (get_views(cluster)[1], get_asked(cluster)[1]) == (0, 0)
    cluster.drops.append(lambda s, t, m: s == 3)
    cluster.step(1, MessageReceived(sender=ReplicaId(3), message=sign_view_change(cluster, 3, 1)))
    assert get_views(cluster)[1] == 1  # With its own that makes three.


def test_v10_a_view_is_not_left_for_a_lower_one(cluster: Cluster) -> None:
    """However good the NEW-VIEW of the lower one is, and whatever base it has."""
    cluster.submit(b"a")
    cluster.deliver()
    base = cluster.disks[0].chain[0][1]
    changes = tuple(sign_view_change(cluster, replica, 2) for replica in (0, 1, 2))
    receive(cluster, 3, 2, sign_new_view(cluster, 2, 2, changes))
    assert cluster.replicas[3].status.view == 2
    changes = tuple(sign_view_change(cluster, replica, 1, base=base) for replica in (0, 1, 2))
    receive(cluster, 3, 1, sign_new_view(cluster, 1, 1, changes))
    assert cluster.replicas[3].status.view == 2


def test_v11_an_invalid_new_view_changes_nothing_and_what_is_final_stays(cluster: Cluster) -> None:
    cluster.submit(b"a")
    cluster.deliver()
    digest = cluster.get_digest(3, 1)
    changes = tuple(sign_view_change(cluster, replica, 1) for replica in (1, 2))
    before = cluster.replicas[3].status
    effects = receive(cluster, 3, 1, sign_new_view(cluster, 1, 1, changes))
    assert not effects.send
    assert not effects.persist
    assert cluster.replicas[3].status == before
    # These VIEW-CHANGEs know nothing of height 1; a view that begins from them cannot undo it.
    changes = tuple(sign_view_change(cluster, replica, 1) for replica in (0, 1, 2))
    receive(cluster, 3, 1, sign_new_view(cluster, 1, 1, changes))
    assert cluster.replicas[3].status.view == 1
    cluster.run(20_000)
    cluster.submit(b"b")
    cluster.run(30_000)
    assert cluster.get_digest(3, 1) == digest
    assert min(cluster.get_heights()) >= 2
    cluster.check_agreement()


def test_l1_after_an_hour_without_a_quorum_work_goes_on_soon(cluster: Cluster) -> None:
    cluster.crash(0)
    cluster.crash(1)
    cluster.submit(b"a")
    cluster.run(3_600_000, 1_000)
    assert max(r.status.view_changes_sent for r in cluster.replicas.values()) <= 1
    cluster.start(0)
    cluster.start(1)
    cluster.run(9_000)
    assert cluster.get_heights() == [1] * 4


def test_l1_timeouts_double_to_their_cap_while_views_fail(cluster: Cluster) -> None:
    """A quorum changes views, and no primary gets anything through."""
    cluster.drops.append(lambda s, t, m: isinstance(m, PrePrepare))
    cluster.submit(b"a")
    times = []
    for _ in range(900):
        before = max(get_asked(cluster))
        cluster.run(100, 100)
        if max(get_asked(cluster)) > before:
            times.append(cluster.now_ms)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] == pytest.approx(4_000, abs=500)
    assert max(gaps) <= 10_500
    assert len(gaps) >= 6
    cluster.drops.clear()
    cluster.run(12_000)
    assert min(cluster.get_heights()) >= 1
    assert cluster.replicas[0].status.failed_views == 0


def test_l3_a_primary_that_leaves_out_one_transaction_is_replaced(cluster: Cluster) -> None:
    """Others are committed all the time; the timer belongs to the oldest."""
    victim = cluster.submit(b"victim", 1, 2, 3)
    build = cluster.get_pending
    cluster.get_pending = lambda r: [one for one in build(r) if r != 0 or one != victim]
    for number in range(40):
        cluster.submit(b"other %d" % number)
        cluster.run(100)
    assert min(get_views(cluster)) >= 1
    cluster.get_pending = build
    committed = [one for proposal, _ in cluster.disks[1].chain for one in proposal.transaction_hashes]
    assert victim in committed
    cluster.check_agreement()


def test_l3_a_slow_primary_keeps_its_turn_only_for_so_many_blocks(
    cluster_of: Callable[..., Cluster],
) -> None:
    """However quick it is: the turn passes on by itself."""
    cluster = cluster_of(4, blocks_per_primary=3).boot()
    for number in range(12):
        cluster.submit(b"%d" % number)
        cluster.deliver()
    builders = [cluster.disks[1].chain[height][0].header.split()[3] for height in range(12)]
    assert builders == [b"0"] * 2 + [b"1"] * 3 + [b"2"] * 3 + [b"3"] * 3 + [b"0"]


def test_l3_a_primary_that_is_slow_beside_the_others_is_replaced(
    cluster_of: Callable[..., Cluster],
) -> None:
    """Each of its proposals arrives after three quarters of the timeout, which never runs out."""
    cluster = cluster_of(4, blocks_per_primary=100).boot()
    arrives_ms = 0
    cluster.drops.append(lambda s, t, m: s == 0 and isinstance(m, PrePrepare) and cluster.now_ms < arrives_ms)
    for number in range(BLOCKS + 5):
        arrives_ms = cluster.now_ms + 3 * TIMEOUT_MS // 4
        cluster.submit(b"%d" % number)
        while min(cluster.get_heights()) <= number:
            cluster.run(50, 50)
    builders = [proposal.header.split()[3] for proposal, _ in cluster.disks[1].chain]
    borne = builders.count(b"0")
    assert 1 < borne <= BLOCKS
    assert builders == [b"0"] * borne + [b"1"] * (len(builders) - borne)
    assert get_views(cluster) == [1] * 4
    cluster.check_agreement()


def test_a_lone_view_change_of_a_live_peer_is_joined_after_a_while(cluster: Cluster) -> None:
    """Replica 3 asks for view 1 alone; the others go on without it, and then fetch it back."""
    cluster.step(3, PendingChanged(oldest=DIGEST))  # Nobody else ever hears of this transaction.
    cluster.run(TIMEOUT_MS + 500)
    assert get_asked(cluster) == [0, 0, 0, 1]
    cluster.step(3, PendingChanged(oldest=None))
    cluster.run(10_000)
    assert get_asked(cluster) == [0, 0, 0, 1]
    cluster.run(10_000)
    assert get_views(cluster) == [1] * 4
    cluster.submit(b"b")
    cluster.run(500)
    assert len(set(cluster.get_heights())) == 1
    cluster.check_agreement()


def test_a_certificate_of_a_higher_view_proves_that_view(cluster: Cluster) -> None:
    cluster.drops.append(lambda s, t, m: 3 in (s, t))
    cluster.crash(0)
    cluster.start(0)
    cluster.drops.append(lambda s, t, m: isinstance(m, PrePrepare) and s == 0)
    cluster.submit(b"a", 0, 1, 2)
    cluster.run(TIMEOUT_MS + 1_000)
    assert get_views(cluster)[:3] == [1, 1, 1]
    cluster.drops.clear()
    cluster.drops.append(lambda s, t, m: isinstance(m, NewView))
    cluster.run(1_000)
    assert get_views(cluster) == [1] * 4
    assert cluster.get_heights() == [1] * 4


def test_e3_the_clock_tolerance_widens_with_each_failed_view_up_to_a_cap(cluster: Cluster) -> None:
    cluster.judge = lambda replica, validate: (validate.freshness is None, False)
    cluster.submit(b"a")
    cluster.run(40_000)
    found = [validate.freshness.tolerance_ms for replica, validate in cluster.validations if replica == 3]
    assert found[0] == 2_000
    assert found == sorted(found)
    assert found[-1] > 8_000


def test_p3_view_change_and_new_view_are_persisted_in_the_step_that_sends_them(cluster: Cluster) -> None:
    seen: set[type] = set()

    def check(replica: int, effects: Effects) -> bool:
        for send in effects.send:
            if isinstance(send.message, ViewChange) and send.to is None:
                seen.add(ViewChange)
                assert ViewChangeRecord(send.message) in effects.persist
            if isinstance(send.message, NewView) and send.to is None:
                seen.add(NewView)
                assert NewViewRecord(send.message) in effects.persist
        return False

    cluster.crash_before_send = check
    cluster.crash(0)
    cluster.submit(b"a")
    cluster.run(TIMEOUT_MS + 500)
    assert seen == {ViewChange, NewView}
    for replica in (1, 2, 3):
        records = [decode_record(data) for data in cluster.disks[replica].journal]
        assert any(isinstance(record, NewViewRecord) for record in records), "every backup can prove its view"

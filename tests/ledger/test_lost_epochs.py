"""Epochs whose quorum is lost before they have a block: recovered above the former one's last block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.replica_set import ReplicaSet
from contracts.calls.changes import KeyChange
from contracts.recoveries import list_recoveries
from crypto import tags
from ledger.block_sync import SyncBlock, begin_sync_commit, serve_blocks
from ledger.chain import Chain
from ledger.epochs import EpochChange, follow_epochs
from ledger.errors import BlockRefused, EpochUnknown, ProofRefused, SnapshotRefused
from ledger.pacing import Pacer
from ledger.proofs import decode_proof, verify_proof
from ledger.recovery_file import decode_recovery, encode_recovery, prepare_recovery
from ledger.snapshot import decode_manifest, verify_manifest
from tests.ledger.consortium import Consortium, make_key, sign
from tests.ledger.test_recovery_sync import follow, serve
from tests.ledger.test_snapshot_epochs import install, offer, read_manifest


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    """Node 4 was voted in and never came up: epoch 1 has no block, and will have none."""
    made = Consortium(tmp_path)
    made.commit(made.register(3, "node 4"))
    made.change(add=(4,))
    yield made
    for chain in made.opened:
        chain.close()


def make_recovery(consortium: Consortium, *replicas: int, by: tuple[int, ...] = (0, 1, 2)) -> EpochChange:
    return sign(consortium, prepare_recovery(consortium.chain, replicas), *by)


def test_the_institutions_go_on_above_the_closing_block_and_every_later_proof_shows_both_steps(
    consortium: Consortium,
) -> None:
    chain, base = consortium.chain, consortium.chain.head
    assert base.header.next_replica_set_digest == chain.replica_set.compute_digest()
    chain.recover(decode_recovery(encode_recovery(make_recovery(consortium, 0, 1, 2))))
    assert (chain.epoch.base_height, chain.epoch.closing) == (base.height, base.certificate)
    first = consortium.commit(consortium.register(2, "after"))
    assert (first.header.epoch, first.header.parent_hash) == (2, base.digest)
    ((epoch, row),) = list_recoveries(chain.state)
    assert (epoch, row.height, row.digest) == (2, base.height, base.digest)

    proof = chain.prove_receipt(first.transactions[0].transaction_id)
    change, recovery = proof.epoch_changes
    assert (change.certificate.epoch, change.replica_set.epoch, change.recovery) == (0, 1, None)
    assert (recovery.header, recovery.replica_set.epoch) == (change.header, 2)
    proved = verify_proof(decode_proof(proof.encode()), consortium.chain_id)
    assert proved.block.recoveries == (base.height,)
    assert f"RECOVERED    above height {base.height} " in proved.describe()


def test_later_epochs_follow_by_vote_and_by_recovery(consortium: Consortium) -> None:
    heights = [consortium.chain.head.height]
    consortium.chain.recover(make_recovery(consortium, 0, 1))
    consortium.change(add=(2,))
    consortium.commit()
    heights.append(consortium.chain.head.height)
    consortium.chain.recover(make_recovery(consortium, 1, 2))
    block = consortium.commit(consortium.register(1, "last"))
    proof = consortium.chain.prove_receipt(block.transactions[0].transaction_id)
    assert [change.recovery is None for change in proof.epoch_changes] == [True, False, True, False]
    assert verify_proof(proof, consortium.chain_id).block.recoveries == tuple(heights)


def test_a_recovered_epoch_that_is_lost_before_its_first_block_is_recovered_too(
    consortium: Consortium,
) -> None:
    chain, base = consortium.chain, consortium.chain.head
    chain.recover(make_recovery(consortium, 0, 1, 4))
    chain.recover(make_recovery(consortium, 0, 1, by=(1, 2, 3)))
    block = consortium.commit(consortium.register(1, "at last"))
    assert block.header.epoch == 3
    assert [(epoch, row.height) for epoch, row in list_recoveries(chain.state)] == [
        (2, base.height),
        (3, base.height),
    ]
    proof = chain.prove_receipt(block.transactions[0].transaction_id)
    assert verify_proof(proof, consortium.chain_id).block.recoveries == (base.height, base.height)


def test_members_are_kept_with_the_keys_that_the_lost_change_gave_them(consortium: Consortium) -> None:
    chain = consortium.chain
    chain.recover(make_recovery(consortium, 0, 1, 2))
    new = make_key("node 7").public_key
    consortium.change(by=2, rotate=(KeyChange(2, new, consortium.prove(2, "node 7")),))
    chain.recover(make_recovery(consortium, 0, 2))
    assert [member.public_key for member in chain.replica_set.members] == [make_key("node 0").public_key, new]
    assert consortium.commit().header.epoch == 4


def test_the_ledger_opens_again_before_and_after_the_first_block(consortium: Consortium) -> None:
    consortium.chain.recover(make_recovery(consortium, 0, 4))
    consortium.chain.recover(make_recovery(consortium, 0))
    for _ in range(2):
        epoch = consortium.chain.epoch
        assert (epoch.replica_set.epoch, len(epoch.replica_set.members)) == (3, 1)
        consortium.chain.close()
        consortium.opened.clear()
        consortium.chain = consortium.open("first")
        assert consortium.chain.epoch == epoch
        consortium.commit()


# Block sync


def test_whoever_lags_behind_has_all_that_stands_above_the_closing_block_from_a_peer(
    consortium: Consortium,
) -> None:
    chain, new = consortium.chain, consortium.open("new")
    waiting, halfway = consortium.open("waiting"), consortium.open("halfway")
    for late in (waiting, halfway):
        follow(late, serve(chain, late))
    changes = [make_recovery(consortium, 0, 1, 4)]
    chain.recover(changes[0])
    halfway.recover(changes[0])
    changes.append(make_recovery(consortium, 0, 1))
    chain.recover(changes[1])
    block = consortium.commit(consortium.register(1, "at last"))
    consortium.commit()
    assert [list(block.recoveries) for block in serve(chain, waiting)] == [changes, []]
    proof = chain.prove_receipt(block.transactions[0].transaction_id)
    for late in (new, waiting, halfway):
        follow(late, serve(chain, late))
        assert (late.head.digest, late.epoch) == (chain.head.digest, chain.epoch)
        assert late.prove_receipt(block.transactions[0].transaction_id) == proof


def test_a_pruned_node_gives_what_stands_above_the_closing_block(consortium: Consortium) -> None:
    chain, late = consortium.chain, consortium.open("late")
    follow(late, serve(chain, late))
    chain.recover(make_recovery(consortium, 0, 1))
    consortium.commit()
    chain.prune(late.head.height + 1, Pacer(rest_seconds=0))
    consortium.commit()
    follow(late, serve(chain, late))
    assert late.head.digest == chain.head.digest


# Snapshots


@pytest.mark.parametrize("blocks", [0, 2], ids=["of the closing block", "of a later block"])
def test_a_node_joins_by_a_snapshot_of_such_a_ledger(consortium: Consortium, blocks: int) -> None:
    chain = consortium.chain
    chain.recover(make_recovery(consortium, 0, 1, 4))
    chain.recover(make_recovery(consortium, 0, 1))
    for _ in range(blocks):
        consortium.commit()
    offered = offer(consortium)
    verified = verify_manifest(decode_manifest(offered.manifest), chain.genesis)
    assert len(verified.manifest.epoch_changes) == 3
    joined = install(consortium, offered, verified)
    assert (joined.head, joined.epoch) == (chain.head, chain.epoch)
    block = consortium.commit(consortium.register(1, "later"))
    follow(joined, serve(chain, joined))
    transaction = block.transactions[0].transaction_id
    assert joined.prove_receipt(transaction) == chain.prove_receipt(transaction)


def test_a_snapshot_from_before_the_recovery_serves_as_well(consortium: Consortium) -> None:
    chain, offered = consortium.chain, offer(consortium)
    verified = verify_manifest(decode_manifest(offered.manifest), chain.genesis)
    joined = install(consortium, offered, verified)
    assert joined.replica_set.epoch == 1
    chain.recover(make_recovery(consortium, 0, 1))
    consortium.commit()
    follow(joined, serve(chain, joined))
    assert (joined.head.digest, joined.epoch) == (chain.head.digest, chain.epoch)


def test_e4_a_manifest_without_a_step_or_with_one_too_many_is_refused(consortium: Consortium) -> None:
    chain = consortium.chain
    chain.recover(make_recovery(consortium, 0, 1))
    at_base = read_manifest(consortium)
    consortium.commit()
    above = read_manifest(consortium)
    change, recovery = above.epoch_changes
    assert at_base.epoch_changes == above.epoch_changes
    for manifest in (at_base, above):
        for steps in ((), (recovery,), (recovery, change), (change, recovery, recovery)):
            with pytest.raises(SnapshotRefused):
                verify_manifest(msgspec.structs.replace(manifest, epoch_changes=steps), chain.genesis)
    with pytest.raises(SnapshotRefused):
        verify_manifest(msgspec.structs.replace(above, epoch_changes=(change,)), chain.genesis)


# Forgeries


def make_elsewhere(consortium: Consortium) -> EpochChange:
    """By the same institutions and keys, at the same height of another ledger with the same change."""
    other = Consortium(consortium.directory / "other", network="another network")
    consortium.opened += other.opened
    other.commit(other.register(3, "node 4"))
    other.change(add=(4,))
    assert other.chain.head.height == consortium.chain.head.height
    return make_recovery(other, 0)


def move(consortium: Consortium, change: EpochChange, height: int) -> EpochChange:
    """The same statement, shown for another block."""
    header = consortium.chain.archive.get_header_bytes(height)
    certificate = consortium.chain.get_certificate(height)
    assert header is not None
    assert certificate is not None
    return msgspec.structs.replace(change, header=header, certificate=certificate)


def certify_head(consortium: Consortium, replica_set: ReplicaSet) -> Certificate:
    """By the whole of a set, whether or not the height is its own."""
    head = consortium.chain.head
    message = compute_vote_bytes(
        consortium.chain_id, replica_set.epoch, head.height, 0, Phase.COMMIT, head.digest
    )
    votes = tuple(
        VoteSignature(member.replica, consortium.replica_keys[member.public_key].sign(tags.VOTE, message))
        for member in replica_set.members
    )
    return Certificate(replica_set.epoch, head.height, 0, head.digest, votes)


def make_forgeries(consortium: Consortium) -> dict[str, EpochChange]:
    chain, height = consortium.chain, consortium.chain.head.height
    unsigned, whole = prepare_recovery(chain, (0,)), make_recovery(consortium, 0)

    def replace(change: EpochChange, replica_set: ReplicaSet) -> EpochChange:
        return msgspec.structs.replace(change, replica_set=replica_set)

    def open_epoch(epoch: int) -> EpochChange:
        return sign(consortium, replace(unsigned, ReplicaSet(epoch, unsigned.replica_set.members)), 0, 1, 2)

    by_the_lost = certify_head(consortium, chain.replica_set)
    return {
        "nobody signed": unsigned,
        "half of the institutions signed": make_recovery(consortium, 0, by=(0, 1)),
        "signed for another set": replace(whole, prepare_recovery(chain, (1,)).replica_set),
        "in the place of the change": open_epoch(1),
        "of an epoch too many": open_epoch(3),
        "an epoch higher than signed": replace(whole, ReplicaSet(3, whole.replica_set.members)),
        "shown for an earlier block": move(consortium, whole, height - 1),
        "of another ledger": make_elsewhere(consortium),
        "a change of the replicas": msgspec.structs.replace(whole, recovery=None),
        "certified by the lost set": msgspec.structs.replace(whole, certificate=by_the_lost),
    }


def make_block(consortium: Consortium, change: EpochChange) -> SyncBlock:
    """The next block as the recovered set certifies it, made in a copy of the ledger."""
    copy = consortium.open("usurped")
    follow(copy, serve(consortium.chain, copy))
    copy.recover(change)
    block = copy.execute((), proposer=0, time_ms=copy.head.header.time_ms + 1_000)
    return SyncBlock(block.header_bytes, consortium.certify(block, change.replica_set), (), (change,))


def test_e4_no_forgery_is_taken_from_a_file_a_peer_or_a_proof(consortium: Consortium) -> None:
    chain, genuine = consortium.chain, make_recovery(consortium, 0)
    block, before = make_block(consortium, genuine), (chain.head, chain.epoch)
    since_genesis = chain.archive.list_epoch_changes(1)
    for name, forgery in make_forgeries(consortium).items():
        with pytest.raises(ProofRefused):
            chain.recover(forgery)
        with pytest.raises((BlockRefused, EpochUnknown)):
            begin_sync_commit(chain, msgspec.structs.replace(block, recoveries=(forgery,)))
        with pytest.raises(ProofRefused):
            follow_epochs(chain.genesis, (*since_genesis, forgery))
        assert (chain.head, chain.epoch) == before, name
    assert follow_epochs(chain.genesis, (*since_genesis, genuine)) == genuine.replica_set
    follow(chain, [block])
    assert chain.replica_set == genuine.replica_set


def test_e4_a_recovery_never_stands_in_the_place_of_the_change_that_the_block_makes(
    consortium: Consortium,
) -> None:
    """Though a majority signed it: the set that the replicas handed over to may have gone on."""
    forgery = make_forgeries(consortium)["in the place of the change"]
    with pytest.raises(ProofRefused, match="in the place of the change"):
        follow_epochs(consortium.genesis, (forgery,))


def test_e4_an_outsider_refuses_a_chain_of_steps_that_is_not_whole(consortium: Consortium) -> None:
    chain = consortium.chain
    chain.recover(make_recovery(consortium, 0, 1))
    block = consortium.commit(consortium.register(1, "after"))
    consortium.commit()
    proof = chain.prove_receipt(block.transactions[0].transaction_id)
    change, recovery = proof.epoch_changes
    later = move(consortium, recovery, chain.head.height)
    for steps in (
        (),
        (change,),
        (recovery,),
        (recovery, change),
        (change, recovery, recovery),
        (change, change, recovery),
        (change, later),
        (change, msgspec.structs.replace(recovery, certificate=later.certificate)),
    ):
        with pytest.raises(ProofRefused):
            verify_proof(msgspec.structs.replace(proof, epoch_changes=steps), consortium.chain_id)


def test_e4_an_epoch_that_has_a_block_is_not_recovered_below_it(consortium: Consortium) -> None:
    """The institutions may not know of the block: whoever has it refuses, from a file and from a peer."""
    chain, change = consortium.chain, make_recovery(consortium, 0)
    next_one = make_forgeries(consortium)["of an epoch too many"]
    usurped = make_block(consortium, change)
    consortium.commit(consortium.register(1, "the lost set was alive"))
    height = chain.head.height
    with pytest.raises(ProofRefused, match="not for the head"):
        chain.recover(change)
    with pytest.raises(BlockRefused):
        begin_sync_commit(chain, usurped)
    for shown_for in (height, height - 1):
        with pytest.raises(ProofRefused):
            chain.recover(move(consortium, change, shown_for))
    assert (chain.head.height, chain.replica_set.epoch) == (height, 1)
    # Nor once that block was recovered above, neither this one nor one for the epoch that comes next.
    chain.recover(make_recovery(consortium, 0, 1))
    consortium.commit()
    steps = chain.archive.list_epoch_changes(2)
    for late in (change, next_one):
        with pytest.raises(ProofRefused, match="epoch"):
            follow_epochs(chain.genesis, (*steps, late))


def test_two_recoveries_of_one_answer_are_opened_both_or_not_at_all(consortium: Consortium) -> None:
    chain, late = consortium.chain, consortium.open("late")
    follow(late, serve(chain, late))
    first = make_recovery(consortium, 0, 1, 4)
    chain.recover(first)
    second = make_recovery(consortium, 0, 1)
    chain.recover(second)
    consortium.commit()
    (block,) = serve_blocks(chain, late.head.height + 1, count_max=1, bytes_max=1 << 20)
    half = sign(consortium, prepare_recovery(chain, (0, 1)), 0)
    half = msgspec.structs.replace(second, recovery=half.recovery)
    for shown in ((first,), (second,), (second, first), (first, half), (first, first)):
        _check_refused(late, msgspec.structs.replace(block, recoveries=shown))
    follow(late, [block])
    assert late.epoch == chain.epoch


def _check_refused(late: Chain, block: SyncBlock) -> None:
    before = late.head, late.epoch
    with pytest.raises(BlockRefused):
        begin_sync_commit(late, block)
    assert (late.head, late.epoch) == before
    assert late.archive.get_epoch_change(late.replica_set.epoch) is None

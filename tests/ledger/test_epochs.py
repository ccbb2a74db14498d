"""Epochs on the real ledger: the old set certifies a change, and proofs lead through every epoch (E4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from consensus.certificates import Phase, VoteSignature, compute_vote_bytes
from consensus.replica_set import Member, ReplicaSet
from contracts.calls.changes import KeyChange
from crypto import tags
from crypto.encoding import encode
from ledger.block import decode_header
from ledger.block_sync import SyncBlock, begin_sync_commit, serve_blocks
from ledger.epochs import EpochChange
from ledger.errors import BlockRefused, ProofRefused
from ledger.proofs import decode_proof, verify_proof
from tests.ledger.consortium import Consortium, make_key


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(tmp_path)
    yield made
    for chain in made.opened:
        chain.close()


@pytest.fixture
def history(consortium: Consortium) -> dict[int, bytes]:
    """A transaction of each of four epochs: one replica added, one removed, one key rotated."""
    found: dict[int, bytes] = {}

    def note(name: str) -> None:
        block = consortium.commit(consortium.register(3, name))
        found[consortium.chain.replica_set.epoch] = block.transactions[0].transaction_id

    note("node 4")
    consortium.change(add=(4,))
    note("other 1")
    consortium.change(remove=(0,))
    note("other 2")
    rotation = KeyChange(2, make_key("node 7").public_key, consortium.prove(2, "node 7"))
    consortium.change(by=2, rotate=(rotation,))
    note("other 3")
    return found


def test_e4_the_old_set_certifies_the_change_and_the_new_one_the_next_height(consortium: Consortium) -> None:
    consortium.commit(consortium.register(3, "node 4"))
    old = consortium.chain.replica_set
    *_, closing = consortium.change(add=(4,))
    new = consortium.chain.replica_set
    assert (old.epoch, new.epoch) == (0, 1)
    assert [member.replica for member in new.members] == [0, 1, 2, 3, 4]
    assert closing.header.epoch == closing.certificate.epoch == 0
    assert closing.header.replica_set_digest == old.compute_digest()
    assert closing.header.next_replica_set_digest == new.compute_digest()
    assert consortium.chain.epoch.base_height == closing.header.height
    assert consortium.chain.epoch.closing == closing.certificate
    block = consortium.commit()
    assert block.header.epoch == block.certificate.epoch == 1
    assert block.header.replica_set_digest == new.compute_digest()


def test_e4_no_other_block_changes_the_set(consortium: Consortium) -> None:
    consortium.commit(consortium.register(3, "node 4"))
    *before, closing = consortium.change(add=(4,))
    for block in before:
        assert block.header.next_replica_set_digest == block.header.replica_set_digest
    assert closing.header.next_replica_set_digest != closing.header.replica_set_digest


def test_e4_a_block_of_the_wrong_epoch_is_refused_on_either_side_of_the_change(
    consortium: Consortium,
) -> None:
    consortium.commit(consortium.register(3, "node 4"))
    old = consortium.chain.replica_set
    consortium.change(add=(4,))
    chain = consortium.chain
    block = chain.execute((), proposer=0, time_ms=chain.head.header.time_ms + 60_000)
    for wrong in (
        msgspec.structs.replace(block.header, epoch=0),
        msgspec.structs.replace(block.header, replica_set_digest=old.compute_digest()),
        msgspec.structs.replace(block.header, next_replica_set_digest=old.compute_digest()),
    ):
        with pytest.raises(BlockRefused):
            chain.validate(encode(wrong), ())


def test_e4_a_synced_block_is_verified_with_the_set_of_its_own_height(
    consortium: Consortium, history: dict[int, bytes]
) -> None:
    late = consortium.open("late")
    assert len(history) == 4
    blocks = serve_blocks(consortium.chain, 1, count_max=200, bytes_max=1 << 20)
    for block in blocks:
        wrong = msgspec.structs.replace(
            block.certificate,
            signatures=tuple(VoteSignature(vote.replica, bytes(64)) for vote in block.certificate.signatures),
        )
        with pytest.raises(BlockRefused, match="quorum"):
            begin_sync_commit(late, msgspec.structs.replace(block, certificate=wrong))
        pending = begin_sync_commit(late, block)
        pending.write()
        late.finish_commit(pending)
    assert late.head.digest == consortium.chain.head.digest
    assert late.replica_set == consortium.chain.replica_set
    assert late.epoch == consortium.chain.epoch


def test_e4_the_former_set_certifies_nothing_above_its_last_block(consortium: Consortium) -> None:
    consortium.commit(consortium.register(3, "node 4"))
    late = consortium.open("late")
    old = consortium.chain.replica_set
    consortium.change(add=(4,))
    consortium.commit()
    for block in serve_blocks(consortium.chain, 1, count_max=200, bytes_max=1 << 20)[:-1]:
        pending = begin_sync_commit(late, block)
        pending.write()
        late.finish_commit(pending)
    speculation = late.execute((), proposer=0, time_ms=late.head.header.time_ms + 1_000)
    certificate = consortium.certify(speculation, old, signers=4)  # All of it, as many as the new set needs.
    forged = SyncBlock(header=speculation.header_bytes, transactions=(), certificate=certificate)
    with pytest.raises(BlockRefused, match="epoch 0 found, 1 expected"):
        begin_sync_commit(late, forged)


def test_the_epoch_is_the_same_after_opening_again(consortium: Consortium, history: dict[int, bytes]) -> None:
    before = consortium.chain.epoch
    assert before.replica_set.epoch == len(history) - 1
    consortium.chain.close()
    consortium.opened.clear()
    assert consortium.open("first").epoch == before


def test_receipts_of_every_epoch_verify_offline_with_the_genesis_digest_alone(
    consortium: Consortium, history: dict[int, bytes]
) -> None:
    for epoch, transaction_id in history.items():
        proof = consortium.chain.prove_receipt(transaction_id)
        assert len(proof.epoch_changes) == epoch
        proved = verify_proof(decode_proof(proof.encode()), consortium.chain_id)
        assert proved.block.header.epoch == epoch
    state = consortium.chain.prove_state(b"governance/replica_set/current")
    proved = verify_proof(decode_proof(state.encode()), consortium.chain_id)
    assert proved.block.header.epoch == 3


def test_a_chain_of_epochs_with_a_step_missing_or_forged_is_refused(
    consortium: Consortium, history: dict[int, bytes]
) -> None:
    proof = consortium.chain.prove_receipt(history[3])
    first, second, third = proof.epoch_changes
    mallory = make_key("mallory")
    other = ReplicaSet(2, tuple(Member(n, mallory.public_key, b"m" * 16) for n in (0,)))
    closing = decode_header(second.header)
    forged_header = msgspec.structs.replace(closing, next_replica_set_digest=other.compute_digest())
    for changes in (
        (),
        (first, second),
        (second, third),
        (first, third),
        (first, first, second, third),
        (second, first, third),
        (first, msgspec.structs.replace(second, replica_set=other), third),
        (first, EpochChange(encode(forged_header), second.certificate, other), third),
        (first, msgspec.structs.replace(second, certificate=third.certificate), third),
        (first, second, third, third),
        (first, second, msgspec.structs.replace(third, header=b"no header")),
    ):
        with pytest.raises(ProofRefused):
            verify_proof(msgspec.structs.replace(proof, epoch_changes=changes), consortium.chain_id)


def test_a_removed_replica_and_a_former_key_prove_nothing_any_more(
    consortium: Consortium, history: dict[int, bytes]
) -> None:
    proof = consortium.chain.prove_receipt(history[3])
    certificate = proof.certificate
    message = compute_vote_bytes(
        consortium.chain_id, 3, certificate.height, 0, Phase.COMMIT, certificate.digest
    )
    removed = VoteSignature(0, make_key("node 0").sign(tags.VOTE, message))
    former = VoteSignature(2, make_key("node 2").sign(tags.VOTE, message))
    kept = [vote for vote in certificate.signatures if vote.replica != 2]
    for wrong in (removed, former):
        signatures = tuple(sorted((*kept, wrong), key=lambda vote: vote.replica))
        altered = msgspec.structs.replace(certificate, signatures=signatures)
        with pytest.raises(ProofRefused, match="replica"):
            verify_proof(msgspec.structs.replace(proof, certificate=altered), consortium.chain_id)

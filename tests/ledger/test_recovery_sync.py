"""A node that lags behind a recovery has it from its peers, with the block above; nobody can forge one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from contracts.recoveries import list_recoveries
from crypto.encoding import encode
from ledger.block import compute_header_digest
from ledger.block_sync import (
    SyncBlock,
    begin_sync_commit,
    decode_sync_block,
    encode_sync_block,
    serve_blocks,
)
from ledger.chain import Chain
from ledger.epochs import EpochChange
from ledger.errors import BlockRefused, EpochUnknown
from ledger.pacing import Pacer
from ledger.proofs import verify_proof
from ledger.recovery_file import prepare_recovery
from tests.ledger.consortium import Consortium, sign


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(tmp_path)
    made.commit(made.register(3, "node 4"))
    yield made
    for chain in made.opened:
        chain.close()


def serve(chain: Chain, late: Chain) -> list[SyncBlock]:
    return serve_blocks(chain, late.head.height + 1, count_max=100, bytes_max=1 << 20)


def follow(late: Chain, blocks: Sequence[SyncBlock]) -> None:
    for block in blocks:
        pending = begin_sync_commit(late, decode_sync_block(encode_sync_block(block)))
        pending.write()
        late.finish_commit(pending)


def test_who_lags_behind_recoveries_has_them_from_a_peer_and_proves_them_like_all_others(
    consortium: Consortium,
) -> None:
    chain, late = consortium.chain, consortium.open("late")
    base = chain.head
    chain.recover(sign(consortium, prepare_recovery(chain, (0, 1, 4)), 0, 1, 2))
    consortium.commit(consortium.register(0, "first"))
    consortium.change(add=(2,))
    consortium.commit()
    chain.recover(sign(consortium, prepare_recovery(chain, (1, 2)), 1, 2, 3))
    last = consortium.commit(consortium.register(0, "last"))
    blocks = serve(chain, late)
    # What the replicas changed themselves is in the blocks; only the institutions' word comes beside them.
    assert [block.certificate.epoch for block in blocks if block.recoveries] == [1, 3]
    follow(late, blocks)
    assert (late.head.digest, late.epoch) == (chain.head.digest, chain.epoch)
    assert [epoch for epoch, _ in list_recoveries(late.state)] == [1, 3]
    proof = late.prove_receipt(last.transactions[0].transaction_id)
    assert proof == chain.prove_receipt(last.transactions[0].transaction_id)
    proved = verify_proof(proof, consortium.chain_id)
    assert proved.block.recoveries == (base.height, last.header.height - 1)


def test_a_copy_that_was_applied_here_does_as_well_whoever_signed_it(consortium: Consortium) -> None:
    """Copies may carry other majorities; nothing of them is in the state."""
    chain, late = consortium.chain, consortium.open("late")
    follow(late, serve(chain, late))
    change = prepare_recovery(chain, (0, 1))
    chain.recover(sign(consortium, change, 0, 1, 2))
    consortium.commit(consortium.register(0, "first"))
    late.recover(sign(consortium, change, 1, 2, 3))
    follow(late, serve(chain, late))
    assert late.head.digest == chain.head.digest


def test_a_pruned_node_gives_the_recovery_that_its_oldest_block_begins_with(consortium: Consortium) -> None:
    chain, late = consortium.chain, consortium.open("late")
    follow(late, serve(chain, late))
    chain.recover(sign(consortium, prepare_recovery(chain, (0, 1)), 0, 1, 2))
    consortium.commit()
    chain.prune(late.head.height + 1, Pacer(rest_seconds=0))
    consortium.commit()
    follow(late, serve(chain, late))
    assert late.head.digest == chain.head.digest


@pytest.fixture
def usurped(consortium: Consortium) -> SyncBlock:
    """The next block as replica 0 alone certifies it, after a recovery that names replica 0 alone."""
    consortium.commit()
    usurped = consortium.open("usurped")
    follow(usurped, serve(consortium.chain, usurped))
    change = sign(consortium, prepare_recovery(usurped, (0,)), 0, 1, 2)
    usurped.recover(change)
    block = usurped.execute((), proposer=0, time_ms=usurped.head.header.time_ms + 1_000)
    return SyncBlock(block.header_bytes, consortium.certify(block, change.replica_set), (), (change,))


def make_elsewhere(consortium: Consortium) -> EpochChange:
    """A recovery that the same institutions, by the same keys, made at the same height of another ledger."""
    other = Consortium(consortium.directory / "other", network="another network")
    consortium.opened += other.opened
    while other.chain.head.height < consortium.chain.head.height:
        other.commit()
    return sign(other, prepare_recovery(other.chain, (0,)), 0, 1, 2)


def make_forgeries(consortium: Consortium) -> dict[str, EpochChange]:
    chain = consortium.chain
    whole = sign(consortium, prepare_recovery(chain, (0,)), 0, 1, 2)
    other_set = prepare_recovery(chain, (1,)).replica_set
    skipping = msgspec.structs.replace(whole.replica_set, epoch=2)
    earlier = chain.archive.get_header_bytes(chain.head.height - 1)
    certificate = chain.archive.get_certificate(chain.head.height - 1)
    assert earlier is not None
    assert certificate is not None
    return {
        "nobody signed": prepare_recovery(chain, (0,)),
        "half of the institutions signed": sign(consortium, prepare_recovery(chain, (0,)), 0, 1),
        "signed for another set": msgspec.structs.replace(whole, replica_set=other_set),
        "of an epoch too many": msgspec.structs.replace(whole, replica_set=skipping),
        "shown for an earlier block": msgspec.structs.replace(whole, header=earlier, certificate=certificate),
        "of another ledger": make_elsewhere(consortium),
        "a change of the replicas": msgspec.structs.replace(whole, recovery=None),
    }


def test_e4_a_forged_recovery_is_refused_and_leaves_the_node_as_it_was(
    consortium: Consortium, usurped: SyncBlock
) -> None:
    chain = consortium.chain
    before = chain.head, chain.epoch
    for forgery in make_forgeries(consortium).values():
        with pytest.raises(BlockRefused, match="recovery"):
            begin_sync_commit(chain, msgspec.structs.replace(usurped, recoveries=(forgery,)))
    with pytest.raises(EpochUnknown, match="epoch") as refused:
        begin_sync_commit(chain, msgspec.structs.replace(usurped, recoveries=()))
    assert "join anew" in refused.value.advice
    assert (chain.head, chain.epoch) == before
    follow(chain, [usurped])  # All that was wrong is what was replaced.
    assert (chain.head.height, chain.replica_set.epoch) == (before[0].height + 1, 1)


def test_e4_a_recovery_for_one_height_does_not_serve_another(
    consortium: Consortium, usurped: SyncBlock
) -> None:
    consortium.commit()
    before = consortium.chain.head, consortium.chain.epoch
    with pytest.raises(BlockRefused, match="epoch"):
        begin_sync_commit(consortium.chain, usurped)
    late = consortium.open("late")
    follow(late, serve(consortium.chain, late))
    later = late.execute((), proposer=0, time_ms=late.head.header.time_ms + 1_000)
    header = msgspec.structs.replace(later.header, epoch=1)
    digest = compute_header_digest(encode(header))
    certificate = msgspec.structs.replace(usurped.certificate, height=header.height, digest=digest)
    with pytest.raises(BlockRefused, match="not for the head"):
        begin_sync_commit(late, SyncBlock(encode(header), certificate, (), usurped.recoveries))
    assert (late.head.digest, late.epoch) == (before[0].digest, before[1])


def test_e4_a_genuine_recovery_opens_nothing_before_its_replicas_have_certified_a_block(
    consortium: Consortium, usurped: SyncBlock
) -> None:
    chain = consortium.chain
    before = chain.head, chain.epoch
    stranger = msgspec.structs.replace(usurped.certificate.signatures[0], replica=1)
    forged = msgspec.structs.replace(usurped.certificate, signatures=(stranger,))
    with pytest.raises(BlockRefused, match="certificate"):
        begin_sync_commit(chain, msgspec.structs.replace(usurped, certificate=forged))
    assert (chain.head, chain.epoch) == before
    assert chain.archive.get_epoch_change(0) is None

"""A node that missed blocks gets them from a peer, and trusts only the certificate."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from consensus.certificates import VoteSignature
from crypto.encoding import EncodingError, encode
from ledger.block_sync import (
    SyncBlock,
    begin_sync_commit,
    decode_sync_block,
    encode_sync_block,
    serve_blocks,
)
from ledger.errors import BlockRefused, ResultsDiffer
from ledger.transaction import decode_transaction, encode_transaction


@pytest.fixture
def ahead(kit: Any) -> Any:
    chain = kit.open("ahead")
    for height in range(1, 6):
        kit.commit(chain, *(kit.note(b"%d/%d" % (height, number)) for number in range(3)))
    return chain


def apply(chain: Any, block: SyncBlock) -> None:
    pending = begin_sync_commit(chain, decode_sync_block(encode_sync_block(block)))
    pending.write()
    chain.finish_commit(pending)


def test_a_new_node_catches_up_to_the_same_head(kit: Any, ahead: Any) -> None:
    behind = kit.open("behind")
    for block in serve_blocks(ahead, 1, count_max=100, bytes_max=1_000_000):
        apply(behind, block)
    assert behind.head == ahead.head
    assert behind.get_receipt(ahead.get_block(3).transactions[1].transaction_id).height == 3


def test_answers_are_bounded_by_count_and_bytes_but_never_empty(ahead: Any) -> None:
    assert len(serve_blocks(ahead, 2, count_max=2, bytes_max=1_000_000)) == 2
    assert len(serve_blocks(ahead, 2, count_max=100, bytes_max=1)) == 1
    assert serve_blocks(ahead, 6, count_max=100, bytes_max=1_000_000) == []
    heights = [block.certificate.height for block in serve_blocks(ahead, -5, count_max=9, bytes_max=10**6)]
    assert heights == [1, 2, 3, 4, 5]


def test_client_signatures_are_not_verified_again(
    kit: Any, ahead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(transaction: Any) -> None:
        pytest.fail("verified although certified")

    monkeypatch.setattr("ledger.chain.verify_transaction_signature", verify)
    apply(kit.open("behind"), serve_blocks(ahead, 1, count_max=1, bytes_max=1)[0])


def test_what_is_not_the_certified_next_block_is_refused(kit: Any, ahead: Any) -> None:
    behind = kit.open("behind")
    first, second = serve_blocks(ahead, 1, count_max=2, bytes_max=1_000_000)
    certificate = first.certificate
    other = decode_transaction(first.transactions[0])
    resigned = encode_transaction(decode_transaction(bytes(64) + other.body_bytes))
    too_few = replace(certificate, signatures=certificate.signatures[:2])
    doubled = replace(certificate, signatures=(*certificate.signatures[:2], certificate.signatures[0]))
    forged = replace(
        certificate,
        signatures=tuple(VoteSignature(vote.replica, bytes(64)) for vote in certificate.signatures),
    )
    for block, where in (
        (second, "height"),
        (replace(first, header=second.header), "certificate"),
        (replace(first, certificate=second.certificate), "certificate"),
        (replace(first, certificate=too_few), "certificate"),
        (replace(first, certificate=doubled), "certificate"),
        (replace(first, certificate=forged), "certificate"),
        (replace(first, transactions=first.transactions[:-1]), "transaction_count"),
        (replace(first, transactions=first.transactions[::-1]), "transactions_digest"),
        (replace(first, transactions=(resigned, *first.transactions[1:])), "transactions_digest"),
        (replace(first, transactions=(b"garbage", *first.transactions[1:])), "encoding"),
        (replace(first, header=b"garbage"), "encoding"),
    ):
        with pytest.raises(BlockRefused) as refusal:
            begin_sync_commit(behind, block)
        assert refusal.value.where == where
    apply(behind, first)
    assert behind.head.height == 1


def test_E2_a_node_whose_results_differ_from_certified_ones_halts_and_says_so(kit: Any, ahead: Any) -> None:
    behind = kit.open("behind")
    block = ahead.execute([kit.note(b"later")], proposer=0, time_ms=ahead.head.header.time_ms + 1)
    for item in serve_blocks(ahead, 1, count_max=100, bytes_max=1_000_000):
        apply(behind, item)
    wrong = replace(block.header, state_root=b"w" * 32)
    header_bytes = encode(wrong)

    class Certified:
        header = wrong
        digest = wrong.compute_digest()

    transactions = tuple(map(encode_transaction, block.transactions))
    with pytest.raises(ResultsDiffer, match="state_root"):
        begin_sync_commit(behind, SyncBlock(header_bytes, kit.certify(Certified), transactions))
    assert behind.head == ahead.head


@pytest.mark.parametrize("data", [b"", b"\x93", b"\xc1" * 50, bytes(9_000_000)])
def test_garbage_is_not_decoded(data: bytes) -> None:
    with pytest.raises(EncodingError):
        decode_sync_block(data)

"""Admission: every refusal has its code, and nothing that a client can send makes the pool grow."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from consensus.replica_set import ReplicaId
from crypto.signatures import SigningKey
from ledger.mempool import CODES, Mempool
from ledger.settings import LedgerSettings, MempoolSettings
from ledger.transaction import (
    BODY_BYTES_MAX,
    SignedTransaction,
    TransactionRefused,
    decode_transaction,
    encode_transaction,
    sign_transaction,
)
from tests.ledger.unsigned import CHAIN_ID, make_unsigned


def refuse(chain: Any, transaction: Any) -> str:
    with pytest.raises(TransactionRefused) as refusal:
        chain.mempool.verify_and_add(transaction, head_time_ms=chain.head.header.time_ms)
    assert refusal.value.code in CODES
    assert str(refusal.value)
    return refusal.value.code


def accept(chain: Any, *transactions: Any) -> None:
    for transaction in transactions:
        chain.mempool.verify_and_add(transaction, head_time_ms=chain.head.header.time_ms)


def small(make_kit: Any, **bounds: int) -> Any:
    return make_kit(settings=LedgerSettings(mempool=MempoolSettings(**bounds)))


def test_an_accepted_transaction_is_pending_until_it_commits(kit: Any) -> None:
    chain = kit.open()
    transaction = kit.note(b"a")
    accept(chain, transaction)
    assert transaction.signed_hash in chain.mempool
    assert chain.mempool.get(transaction.signed_hash) is transaction
    assert chain.find_end(transaction.transaction_id).status == "pending"
    kit.commit(chain, *chain.mempool.take(10, 10_000))
    assert len(chain.mempool) == chain.mempool.size_bytes == 0
    assert chain.mempool.oldest is None
    assert chain.find_end(transaction.transaction_id).status == "committed"


def test_the_same_transaction_again_is_a_duplicate_then_already_committed(kit: Any) -> None:
    chain = kit.open()
    transaction = kit.note(b"a")
    accept(chain, transaction)
    assert refuse(chain, transaction) == "duplicate"
    kit.commit(chain, transaction)
    assert refuse(chain, transaction) == "already_committed"


def test_E5_a_transaction_is_not_taken_again_after_a_restart(kit: Any) -> None:
    chain = kit.open()
    transaction = kit.note(b"a")
    kit.commit(chain, transaction)
    chain.close()
    chain = kit.open()
    assert refuse(chain, transaction) == "already_committed"
    block = chain.execute([transaction], proposer=0, time_ms=chain.head.header.time_ms + 1_000)
    assert block.transactions == ()


def test_a_transaction_of_another_ledger_is_refused(kit: Any) -> None:
    assert refuse(kit.open(), kit.note(b"a", chain_id=b"c" * 32)) == "wrong_chain"


def test_E5_expiry_is_against_block_time_and_bounded_on_both_sides(kit: Any) -> None:
    chain = kit.open()
    head_ms, window_ms = chain.head.header.time_ms, kit.parameters.expiry_window_ms_max
    assert refuse(chain, kit.note(b"a", expires_ms=head_ms)) == "expired"
    assert refuse(chain, kit.note(b"a", expires_ms=head_ms + window_ms + 1)) == "expires_too_late"
    accept(chain, kit.note(b"a", expires_ms=head_ms + 1), kit.note(b"a", expires_ms=head_ms + window_ms))


def test_too_late_an_expiry_is_not_held_against_the_transaction_for_ever(kit: Any) -> None:
    chain = kit.open()
    transaction = kit.note(
        b"a", expires_ms=chain.head.header.time_ms + kit.parameters.expiry_window_ms_max + 9
    )
    assert refuse(chain, transaction) == "expires_too_late"
    kit.commit(chain)
    accept(chain, transaction)


def test_an_unknown_sender_is_refused(kit: Any) -> None:
    assert refuse(kit.open(), kit.note(b"a", by=kit.stranger)) == "unknown_sender"


def test_a_bad_signature_is_remembered_for_these_bytes_only(kit: Any) -> None:
    chain = kit.open()
    good = kit.note(b"a")
    bad = decode_transaction(bytes(64) + good.body_bytes)
    assert bad.transaction_id == good.transaction_id
    assert refuse(chain, bad) == "bad_signature"
    with pytest.raises(TransactionRefused, match="does not verify"):
        chain.mempool.check(bad, head_time_ms=chain.head.header.time_ms)
    accept(chain, good)


def test_malformed_and_oversized_bytes_are_refused_before_anything_else(kit: Any) -> None:
    good = encode_transaction(kit.note(b"a"))
    for data, code in (
        (b"", "malformed"),
        (good[:-1], "malformed"),
        (good + b"\x00", "malformed"),
        (bytes(64) + b"\x91" * 100_000, "too_large"),
        (bytes(64) + b"\x91" * BODY_BYTES_MAX, "malformed"),
    ):
        with pytest.raises(TransactionRefused) as refusal:
            decode_transaction(data)
        assert refusal.value.code == code


def test_the_pool_is_bounded_by_count(make_kit: Any) -> None:
    kit = small(make_kit, transactions_max=3)
    chain = kit.open()
    accept(chain, *(kit.note(b"%d" % number) for number in range(3)))
    late = kit.note(b"late")
    assert refuse(chain, late) == "mempool_full"
    kit.commit(chain, *chain.mempool.take(1, 10_000))
    accept(chain, late)


def test_the_pool_is_bounded_by_bytes(make_kit: Any) -> None:
    kit = small(make_kit, bytes_max=1_000)
    chain = kit.open()
    accept(chain, kit.note(b"a", "x" * 500))
    assert refuse(chain, kit.note(b"b", "x" * 500)) == "mempool_full"
    accept(chain, kit.note(b"c"))


def test_one_institution_cannot_fill_the_pool_for_the_others(make_kit: Any) -> None:
    kit = small(make_kit, institution_transactions_max=2)
    chain = kit.open()
    accept(chain, kit.note(b"a"), kit.note(b"b"))
    assert refuse(chain, kit.note(b"c")) == "share_full"
    accept(chain, kit.note(b"c", by=kit.other))


def test_a_full_pool_has_room_for_an_institution_that_has_less_than_its_part_of_it(make_kit: Any) -> None:
    kit = small(make_kit, transactions_max=6)
    chain = kit.open()
    accept(chain, *(kit.note(b"%d" % number) for number in range(6)))
    others = [kit.note(b"other %d" % number, by=kit.other) for number in range(4)]
    accept(chain, *others[:3])
    assert refuse(chain, others[3]) == "mempool_full"
    assert refuse(chain, kit.note(b"late")) == "mempool_full"
    assert len(chain.mempool) == 9


def test_the_keys_of_one_institution_have_one_share(make_kit: Any) -> None:
    kit = small(make_kit, institution_transactions_max=2)
    kit.contract_set = dataclasses.replace(
        kit.contract_set, find_institution=lambda state, public_key: b"i" * 16
    )
    chain = kit.open()
    accept(chain, kit.note(b"a"), kit.note(b"b", by=kit.other))
    assert refuse(chain, kit.note(b"c", by=kit.stranger)) == "share_full"


@pytest.mark.parametrize("flooders", [1, 2, 10, 33])
def test_d1_however_many_institutions_flood_by_relays_the_next_one_has_room(flooders: int) -> None:
    """Each sends more than all that the pool holds, by turns, and then an honest one comes."""
    pool = Mempool(
        MempoolSettings(transactions_max=100),
        chain_id=CHAIN_ID,
        expiry_window_ms_max=600_000,
        find_institution=lambda key: key[:16],
        is_committed=lambda transaction_id: False,
    )
    for number in range(250):
        codes = {offer(pool, make_unsigned(flooder, number), is_relayed=True) for flooder in range(flooders)}
        assert codes <= {"accepted", "share_full"}
    assert len(pool) < 200
    assert offer(pool, make_unsigned(99, 0), is_relayed=False) == "accepted"
    first = [transaction.body.sender[0] for transaction in pool.take(flooders + 1, 1_000_000)]
    assert first == [*range(flooders), 99]


def offer(pool: Mempool, transaction: SignedTransaction, *, is_relayed: bool) -> str:
    try:
        institution = pool.check(transaction, head_time_ms=1_000, is_relayed=is_relayed)
    except TransactionRefused as refusal:
        return refusal.code
    pool._insert(transaction, institution)
    return "accepted"


def test_remembered_refusals_are_bounded(make_kit: Any) -> None:
    kit = small(make_kit, refusals_max=5)
    chain = kit.open()
    for number in range(20):
        assert refuse(chain, kit.note(b"%d" % number, chain_id=b"c" * 32)) == "wrong_chain"
    assert len(chain.mempool._refusals) == 5


def test_transactions_are_taken_oldest_first_within_count_and_bytes(kit: Any) -> None:
    chain = kit.open()
    items = [kit.note(b"%d" % number) for number in range(5)]
    accept(chain, *items)
    assert chain.mempool.oldest == items[0].signed_hash
    assert chain.mempool.take(3, 10_000) == items[:3]
    assert chain.mempool.take(10, items[0].size_bytes + items[1].size_bytes) == items[:2]
    assert chain.mempool.take(10, 0) == []
    assert len(chain.mempool) == 5


def test_what_expires_in_the_pool_leaves_it_and_is_known_as_expired(kit: Any) -> None:
    chain = kit.open()
    short = kit.note(b"short", expires_ms=chain.head.header.time_ms + 500)
    accept(chain, short, kit.note(b"long"))
    kit.commit(chain)
    assert len(chain.mempool) == 1
    assert chain.find_end(short.transaction_id, short.body.expires_ms).status == "expired"
    assert chain.find_end(short.transaction_id).status == "unknown"


def test_a_twin_under_another_signature_leaves_the_pool_when_the_body_commits(kit: Any) -> None:
    chain = kit.open()
    transaction = kit.note(b"a")
    # Ed25519 lets a sender sign one body in many ways; here the twin's signature only has to differ.
    twin = decode_transaction(b"\x01" * 64 + transaction.body_bytes)
    chain.mempool.add(twin, head_time_ms=chain.head.header.time_ms)
    kit.commit(chain, transaction)
    assert len(chain.mempool) == 0
    assert refuse(chain, twin) == "already_committed"


def test_a_nonce_tells_apart_what_says_the_same(kit: Any) -> None:
    chain = kit.open()
    key: SigningKey = kit.sender
    body = kit.note(b"a").body
    again = sign_transaction(key, chain_id=kit.chain_id, calls=body.calls, expires_ms=body.expires_ms)
    accept(chain, kit.note(b"a"), again)
    assert len(chain.mempool) == 2


def make_pool(**bounds: int) -> Mempool:
    return Mempool(
        MempoolSettings(**bounds),
        chain_id=CHAIN_ID,
        expiry_window_ms_max=10_000,
        find_institution=lambda key: key[:16],
        is_committed=lambda transaction_id: False,
    )


@pytest.fixture
def _is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.mempool.verify_transaction_signature", lambda transaction: None)


@pytest.mark.usefixtures("_is_signed")
@pytest.mark.parametrize(("argument_bytes", "blocks"), [(1_500, 9), (14_000, 80)])
def test_l3_what_a_backup_waits_for_longest_is_in_the_next_block_however_long_the_share(
    argument_bytes: int, blocks: int
) -> None:
    """Two pools with one institution's transactions in opposite orders; a block holds only a part of them."""
    primary, backup = make_pool(), make_pool()
    pending = [make_unsigned(1, number, argument_bytes=argument_bytes) for number in range(1_480)]
    for transaction in pending:
        primary.verify_and_add(transaction, head_time_ms=0, is_relayed=True)
    for transaction in reversed(pending):
        backup.verify_and_add(transaction, head_time_ms=0, is_relayed=True)
    oldest = backup.oldest
    assert oldest is not None
    assert len(primary) > blocks * len(primary.take(2_000, 4_194_304)), "it would wait for so many blocks"
    forwarded = backup.get(oldest)
    assert forwarded is not None
    primary.verify_and_put_first(forwarded, ReplicaId(1), head_time_ms=0)
    assert primary.take(2_000, 4_194_304)[0].signed_hash == oldest


@pytest.mark.usefixtures("_is_signed")
def test_l3_for_what_a_member_waits_for_longest_there_is_room_though_for_one_only() -> None:
    pool = make_pool(transactions_max=4, institution_transactions_max=2)
    sent = [make_unsigned(1, number) for number in range(10)]
    for transaction in sent[:4]:
        pool.verify_and_add(transaction, head_time_ms=0, is_relayed=True)
    with pytest.raises(TransactionRefused, match="no room"):
        pool.verify_and_add(sent[5], head_time_ms=0, is_relayed=True)
    pool.verify_and_put_first(sent[5], ReplicaId(1), head_time_ms=0)
    with pytest.raises(TransactionRefused, match="another one comes first"):
        pool.verify_and_put_first(sent[6], ReplicaId(1), head_time_ms=0)
    pool.verify_and_put_first(sent[7], ReplicaId(2), head_time_ms=0)
    assert len(pool) == 6
    assert pool.take(3, 9_999) == [sent[5], sent[7], sent[0]]
    pool.remove([sent[5].transaction_id])
    pool.verify_and_put_first(sent[3], ReplicaId(1), head_time_ms=0)
    assert pool.take(2, 9_999) == [sent[7], sent[3]]


def test_what_comes_first_is_checked_like_everything_else(kit: Any) -> None:
    chain = kit.open()
    head_ms = chain.head.header.time_ms
    committed, forged = kit.note(b"a"), kit.note(b"b")
    kit.commit(chain, committed)
    forged = decode_transaction(bytes(64) + encode_transaction(forged)[64:])
    for transaction, code in ((committed, "already_committed"), (forged, "bad_signature")):
        with pytest.raises(TransactionRefused) as refusal:
            chain.mempool.verify_and_put_first(transaction, ReplicaId(1), head_time_ms=head_ms)
        assert refusal.value.code == code
    assert len(chain.mempool) == 0

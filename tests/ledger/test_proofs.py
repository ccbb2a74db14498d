"""Proof files: checked with the genesis digest alone, and refused when any bit is another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crypto.encoding import encode
from ledger.errors import NotHeld, ProofRefused
from ledger.proofs import (
    ProvedReceipt,
    ProvedState,
    decode_proof,
    verify_proof,
    verify_receipt_proof,
    verify_state_proof,
)


@pytest.fixture
def chain(kit: Any, arguments: Any) -> Any:
    chain = kit.open()
    for height in range(1, 5):
        kit.commit(
            chain,
            *(kit.note(b"%d/%d" % (height, number), "text") for number in range(3 * height)),
            kit.sign(("fault", arguments.Nothing())),
        )
    return chain


def read_back(proof: Any) -> Any:
    decoded = decode_proof(proof.encode())
    assert decoded == proof
    return decoded


def test_every_receipt_is_provable_offline_with_its_block_and_sender(kit: Any, chain: Any) -> None:
    for height in range(1, 5):
        for transaction in chain.get_block(height).transactions:
            proof = read_back(chain.prove_receipt(transaction.transaction_id))
            proved = verify_receipt_proof(proof, kit.chain_id)
            assert proved.receipt == chain.get_receipt(transaction.transaction_id)
            assert proved.transaction == transaction
            assert proved.block.header == chain.get_header(height)
            assert proved.block.signers == (0, 1, 2)
            text = proved.describe()
            assert "East" in text
            assert transaction.transaction_id.hex() in text


def test_a_receipts_proof_stays_the_same_as_the_ledger_grows(kit: Any, chain: Any) -> None:
    transaction = chain.get_block(2).transactions[0]
    before = chain.prove_receipt(transaction.transaction_id)
    for _ in range(3):
        kit.commit(chain, kit.note(b"more"))
    assert chain.prove_receipt(transaction.transaction_id) == before


def test_presence_and_absence_are_provable_offline(kit: Any, chain: Any, arguments: Any) -> None:
    present, absent = arguments.notes.compute_state_key(b"2/1"), arguments.notes.compute_state_key(b"9/9")
    proved = verify_state_proof(read_back(chain.prove_state(present)), kit.chain_id)
    assert proved.row == chain.state.get(present)
    assert proved.block.header == chain.head.header
    assert "bytes" in proved.describe()
    proved = verify_state_proof(read_back(chain.prove_state(absent)), kit.chain_id)
    assert proved.row is None
    assert "absent" in proved.describe()


def test_a_proof_of_absence_holds_before_the_row_and_is_no_proof_after_it(
    kit: Any, chain: Any, arguments: Any
) -> None:
    key = arguments.notes.compute_state_key(b"grant")
    before = chain.prove_state(key, chain.head.height)
    kit.commit(chain, kit.note(b"grant"))
    assert verify_state_proof(before, kit.chain_id).block.header.height == 4
    after = chain.prove_state(key)
    with pytest.raises(ProofRefused):
        verify_state_proof(replace(after, row=None, entries=before.entries, count=before.count), kit.chain_id)
    with pytest.raises(ProofRefused):
        verify_state_proof(replace(before, header=after.header, certificate=after.certificate), kit.chain_id)


def test_a_proof_serves_no_other_ledger(kit: Any, chain: Any, make_kit: Any) -> None:
    other = make_kit(replica_count=7)
    key = b"notes/notes/x"
    with pytest.raises(ProofRefused, match="genesis"):
        verify_state_proof(chain.prove_state(key), other.chain_id)
    forged = replace(chain.prove_state(key), genesis=other.genesis.encode())
    with pytest.raises(ProofRefused):
        verify_state_proof(forged, other.chain_id)


def test_a_receipt_is_not_proved_by_another_transactions_path(kit: Any, chain: Any) -> None:
    first, second = (
        chain.prove_receipt(transaction.transaction_id) for transaction in chain.get_block(3).transactions[:2]
    )
    for forged, where in (
        (replace(first, receipt=second.receipt), "receipt"),
        (replace(first, transaction=second.transaction), "receipt"),
        (replace(first, leaf=second.leaf), "history"),
        (replace(first, path=second.path), "history"),
        (replace(first, path=()), "history"),
    ):
        with pytest.raises(ProofRefused) as refusal:
            verify_receipt_proof(forged, kit.chain_id)
        assert refusal.value.where == where


def test_a_failed_receipt_cannot_be_shown_as_ok(kit: Any, chain: Any) -> None:
    failed = chain.get_block(2).transactions[-1]
    proof = chain.prove_receipt(failed.transaction_id)
    assert verify_receipt_proof(proof, kit.chain_id).receipt.code == "contract_fault"
    receipt = chain.get_receipt(failed.transaction_id)
    with pytest.raises(ProofRefused, match="history"):
        verify_receipt_proof(replace(proof, receipt=encode(replace(receipt, code="ok"))), kit.chain_id)


def test_a_certificate_without_a_quorum_proves_nothing(kit: Any, chain: Any) -> None:
    proof = chain.prove_state(b"notes/notes/x")
    few = replace(proof.certificate, signatures=proof.certificate.signatures[:2])
    with pytest.raises(ProofRefused, match="quorum"):
        verify_state_proof(replace(proof, certificate=few), kit.chain_id)


@pytest.mark.slow
def test_every_flipped_bit_of_a_proof_file_is_caught(kit: Any, chain: Any, arguments: Any) -> None:
    transaction = chain.get_block(4).transactions[2]
    files = (
        chain.prove_receipt(transaction.transaction_id).encode(),
        chain.prove_state(arguments.notes.compute_state_key(b"2/1")).encode(),
        chain.prove_state(arguments.notes.compute_state_key(b"none")).encode(),
    )
    for data in files:
        verify_proof(decode_proof(data), kit.chain_id)
        for at in range(len(data)):
            altered = bytearray(data)
            altered[at] ^= 1 << at % 8
            with pytest.raises(ProofRefused):
                verify_proof(decode_proof(bytes(altered)), kit.chain_id)


def test_a_truncated_or_extended_proof_file_is_refused(kit: Any, chain: Any) -> None:
    data = chain.prove_state(b"notes/notes/x").encode()
    for wrong in (data[:-1], data + b"\x00", b"", data[5:]):
        with pytest.raises(ProofRefused, match="file"):
            decode_proof(wrong)


@given(st.binary(max_size=200))
def test_garbage_after_either_magic_is_refused_and_nothing_else_raised(data: bytes) -> None:
    for magic in (b"chartchain:receipt-proof:1\n", b"chartchain:state-proof:1\n", b""):
        with pytest.raises(ProofRefused):
            decode_proof(magic + data)


def test_proofs_of_both_kinds_are_told_apart(kit: Any, chain: Any) -> None:
    transaction = chain.get_block(1).transactions[0]
    receipt = verify_proof(chain.prove_receipt(transaction.transaction_id), kit.chain_id)
    state = verify_proof(chain.prove_state(b"notes/notes/x"), kit.chain_id)
    assert isinstance(receipt, ProvedReceipt)
    assert isinstance(state, ProvedState)


def test_what_is_not_held_is_not_proved(kit: Any, chain: Any) -> None:
    with pytest.raises(NotHeld, match="in no block"):
        chain.prove_receipt(b"t" * 32)
    with pytest.raises(NotHeld, match="only that of height 4"):
        chain.prove_state(b"key", 3)
    with pytest.raises(NotHeld, match="no block is certified"):
        kit.open("fresh").prove_state(b"key")

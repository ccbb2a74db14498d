"""Bytes and digests of the ledger's formats are pinned; a change must be deliberate and versioned."""

from __future__ import annotations

import importlib.util
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from consensus.certificates import Certificate
from crypto.encoding import decode_as, encode
from ledger.block import decode_header
from ledger.epochs import EpochChange
from ledger.genesis import decode_genesis
from ledger.proofs import ProvedReceipt, ProvedState, decode_proof, verify_proof
from ledger.receipt import decode_receipt
from ledger.transaction import decode_transaction, verify_transaction_signature

FOLDER = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="module")
def vectors() -> Any:
    return json.loads((FOLDER / "ledger.json").read_text())


def test_the_program_still_makes_the_stored_vectors(vectors: Any) -> None:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    made = program.compute_vectors()
    for section, expected in vectors.items():
        assert made[section] == expected, section
    assert made.keys() == vectors.keys()


def test_the_chain_id_is_the_tagged_hash_of_the_genesis(vectors: Any) -> None:
    encoded = bytes.fromhex(vectors["genesis"]["encoding"])
    assert decode_genesis(encoded).encode() == encoded
    assert sha256(b"chartchain:genesis:1\x00" + encoded).hexdigest() == vectors["genesis"]["chain_id"]


def test_transactions_are_hashed_with_and_without_their_signature(vectors: Any) -> None:
    for vector in vectors["transactions"]:
        data = bytes.fromhex(vector["signed_bytes"])
        verify_transaction_signature(decode_transaction(data))
        assert sha256(data[64:]).hexdigest() == vector["transaction_id"]
        assert sha256(data[64:] + data[:64]).hexdigest() == vector["signed_hash"]


def test_headers_receipts_and_votes_are_laid_out_as_documented(vectors: Any) -> None:
    genesis = decode_genesis(bytes.fromhex(vectors["genesis"]["encoding"]))
    chain_id = bytes.fromhex(vectors["genesis"]["chain_id"])
    for block in vectors["blocks"]:
        encoded, digest = bytes.fromhex(block["header"]), bytes.fromhex(block["digest"])
        header = decode_header(encoded)
        assert sha256(b"chartchain:header:1\x00" + encoded).digest() == digest
        assert (
            block["vote"]
            == (chain_id + bytes(8) + header.height.to_bytes(8, "big") + bytes(8) + b"\x02" + digest).hex()
        )
        certificate = decode_as(Certificate, bytes.fromhex(block["certificate"]), size_max=10_000)
        certificate.verify(chain_id, genesis.replica_set)
        for vector in block["receipts"]:
            encoded = bytes.fromhex(vector["encoding"])
            receipt = decode_receipt(encoded)
            assert receipt.code == vector["code"]
            digest = sha256(b"chartchain:receipt:1\x00" + encoded).digest()
            leaf = b"\x00chartchain:history-leaf:1\x00" + receipt.transaction_id + digest
            assert (digest.hex(), sha256(leaf).hexdigest()) == (vector["digest"], vector["leaf_hash"])


def test_the_pinned_proofs_verify(vectors: Any) -> None:
    chain_id = bytes.fromhex(vectors["genesis"]["chain_id"])
    proved = {
        name: verify_proof(decode_proof(bytes.fromhex(data)), chain_id)
        for name, data in vectors["proofs"].items()
    }
    assert isinstance(proved["receipt"], ProvedReceipt)
    assert isinstance(proved["present"], ProvedState)
    assert isinstance(proved["absent"], ProvedState)
    assert proved["receipt"].receipt.code == "ok"
    assert proved["present"].row is not None
    assert proved["absent"].row is None


def test_a_change_of_the_replica_set_and_what_recovers_it_are_laid_out_as_documented(vectors: Any) -> None:
    epochs, chain_id = vectors["epochs"], bytes.fromhex(vectors["genesis"]["chain_id"])
    replica_set = bytes.fromhex(epochs["replica_set"])
    assert sha256(b"chartchain:replica-set:1\x00" + replica_set).hexdigest() == epochs["replica_set_digest"]
    change = decode_as(EpochChange, bytes.fromhex(epochs["change"]), size_max=65_536)
    assert encode(change.replica_set) == replica_set
    assert change.recovery is None
    last = vectors["blocks"][-1]
    assert (change.header.hex(), encode(change.certificate).hex()) == (last["header"], last["certificate"])
    statement = encode(
        (chain_id, last["fields"]["height"], bytes.fromhex(last["digest"]), change.replica_set)
    )
    assert statement.hex() == epochs["recovery_statement"]

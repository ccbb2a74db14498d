"""No read-only fast path (rule L4): what is read is committed, proved, and of a height that it names."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.errors import NotHeld, ProofRefused
from ledger.proofs import verify_receipt_proof, verify_state_proof


def test_l4_no_read_shows_a_block_that_is_executed_and_not_committed(kit: Any, arguments: Any) -> None:
    """A view change may take it back. Source: Berger, Reiser and Bessani, arXiv 2107.11144."""
    chain = kit.open()
    kit.commit(chain, kit.note(b"old", "stays"))
    promised = kit.note(b"new", "promised")
    chain.execute([promised], proposer=0, time_ms=chain.head.header.time_ms + 1_000)
    key = arguments.notes.compute_state_key(b"new")

    def check_absent() -> None:
        assert kit.get_note(chain.state, b"new") is None
        assert chain.get_receipt(promised.transaction_id) is None
        assert chain.find_end(promised.transaction_id).status == "unknown"
        assert verify_state_proof(chain.prove_state(key), kit.chain_id).row is None
        with pytest.raises(NotHeld):
            chain.prove_receipt(promised.transaction_id)

    check_absent()
    kit.commit(chain, kit.note(b"other", "took its place"))
    check_absent()
    block = chain.execute([promised], proposer=0, time_ms=chain.head.header.time_ms + 1_000)
    pending = chain.begin_commit(block.digest, kit.certify(block))
    check_absent()
    pending.write()
    chain.finish_commit(pending)
    assert kit.get_note(chain.state, b"new") == "promised"
    assert chain.find_end(promised.transaction_id).status == "committed"


def test_l4_a_replica_alone_proves_nothing_that_did_not_commit(kit: Any, arguments: Any) -> None:
    """The attack: replicas that executed a block show it to a reader; then another block commits."""
    honest, liar = kit.open("honest"), kit.open("liar")
    lost = kit.note(b"lost", "executed only")
    block = liar.execute([lost], proposer=0, time_ms=liar.head.header.time_ms + 1_000)
    pending = liar.begin_commit(block.digest, kit.certify(block, signers=(0, 1)))
    pending.write()
    liar.finish_commit(pending)
    kit.commit(honest, kit.note(b"kept", "committed"))
    with pytest.raises(ProofRefused, match="quorum"):
        verify_receipt_proof(liar.prove_receipt(lost.transaction_id), kit.chain_id)
    key = arguments.notes.compute_state_key(b"lost")
    with pytest.raises(ProofRefused, match="quorum"):
        verify_state_proof(liar.prove_state(key), kit.chain_id)
    assert verify_state_proof(honest.prove_state(key), kit.chain_id).row is None


def test_l4_a_proof_that_is_stale_names_its_height(kit: Any, arguments: Any) -> None:
    """It stays true of that height for ever; a reader who knows of a higher one asks again."""
    chain = kit.open()
    kit.commit(chain, kit.note(b"n", "first"))
    key = arguments.notes.compute_state_key(b"n")
    stale = chain.prove_state(key)
    kit.commit(chain, kit.note(b"n", "second"))
    fresh = verify_state_proof(chain.prove_state(key), kit.chain_id)
    proved = verify_state_proof(stale, kit.chain_id)
    assert (proved.block.header.height, fresh.block.header.height) == (1, 2)
    assert proved.row != fresh.row

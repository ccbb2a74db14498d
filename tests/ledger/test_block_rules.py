"""What makes a proposed block acceptable, header field by header field (rules E1, E3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from crypto.encoding import encode
from ledger.errors import BlockRefused
from ledger.transaction import decode_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    proposer: int = 0
    wall_ms: int = 0
    tolerance_ms: int = 2_000


@pytest.fixture
def proposal(kit: Any) -> tuple[Any, Any]:
    """A backup, one block high, and another node's proposal for it."""
    primary, backup = kit.open("primary"), kit.open("backup")
    first = kit.note(b"first")
    for chain in (primary, backup):
        kit.commit(chain, first)
    items = [kit.note(b"a", "1"), kit.note(b"b", "2")]
    return backup, primary.execute(items, proposer=2, time_ms=kit.genesis.time_ms + 5_000)


def refuse(chain: Any, header_bytes: bytes, transactions: Any, **more: Any) -> str:
    head = chain.head
    with pytest.raises(BlockRefused) as refusal:
        chain.validate(header_bytes, transactions, **more)
    assert chain.head is head
    return refusal.value.where


def test_an_honest_proposal_is_found_the_same(proposal: Any) -> None:
    backup, block = proposal
    found = backup.validate(block.header_bytes, block.transactions)
    assert (found.digest, found.header) == (block.digest, block.header)


CORRUPTIONS: dict[str, Any] = {
    "chain_id": b"c" * 32,
    "epoch": 1,
    "height": 3,
    "parent_hash": b"p" * 32,
    "time_ms": 1,
    "proposer": 9,
    "transaction_count": 1,
    "transactions_digest": b"t" * 32,
    "history_root": b"h" * 32,
    "history_size": 2,
    "state_root": b"s" * 32,
    "replica_set_digest": b"r" * 32,
    "next_replica_set_digest": b"n" * 32,
}


@pytest.mark.parametrize("field", CORRUPTIONS)
def test_E1_a_corrupted_header_field_is_refused_by_name(proposal: Any, field: str) -> None:
    backup, block = proposal
    corrupted = replace(block.header, **{field: CORRUPTIONS[field]})
    assert refuse(backup, encode(corrupted), block.transactions) == field


def test_E1_every_header_field_is_covered_by_the_corruptions(proposal: Any) -> None:
    _, block = proposal
    # The format version cannot be corrupted and still decode.
    assert set(block.header.__struct_fields__) == {*CORRUPTIONS, "format_version"}
    assert refuse(proposal[0], b"\x9e\x02" + block.header_bytes[2:], block.transactions) == "header"


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x9e" * 400, b"x" * 10_000])
def test_E1_garbage_instead_of_a_header_is_refused(proposal: Any, data: bytes) -> None:
    assert refuse(proposal[0], data, ()) == "header"


def test_E1_other_transactions_than_the_headers_are_refused(kit: Any, proposal: Any) -> None:
    backup, block = proposal
    first, second = block.transactions
    assert refuse(backup, block.header_bytes, (second, first)) == "transactions_digest"
    assert refuse(backup, block.header_bytes, (first,)) == "transaction_count"
    assert refuse(backup, block.header_bytes, (first, kit.note(b"z"))) == "transactions_digest"


def header_for(block: Any, transactions: Any) -> bytes:
    """What a lying primary would send: an honest header pointed at other transactions."""
    from ledger.block import compute_transactions_digest

    return encode(
        replace(
            block.header,
            transaction_count=len(transactions),
            transactions_digest=compute_transactions_digest([item.signed_hash for item in transactions]),
        )
    )


@pytest.mark.parametrize(
    "fault", ["wrong_chain", "expired", "expires_too_late", "duplicate", "already_committed"]
)
def test_E1_a_transaction_that_a_block_may_not_hold_refuses_the_block(
    kit: Any, proposal: Any, fault: str
) -> None:
    backup, block = proposal
    time_ms = block.header.time_ms
    good = block.transactions[0]
    committed = backup.get_block(1).transactions[0]
    late_ms = time_ms + kit.parameters.expiry_window_ms_max + 1
    transactions = {
        "wrong_chain": (kit.note(b"a", chain_id=b"c" * 32),),
        "expired": (kit.note(b"a", expires_ms=time_ms),),
        "expires_too_late": (kit.note(b"a", expires_ms=late_ms),),
        "duplicate": (good, good),
        "already_committed": (good, committed),
    }[fault]
    with pytest.raises(BlockRefused, match=fault):
        backup.validate(header_for(block, transactions), transactions)


def test_E1_a_transaction_with_a_bad_signature_refuses_the_block(kit: Any, proposal: Any) -> None:
    backup, block = proposal
    forged = decode_transaction(bytes(64) + block.transactions[0].body_bytes)
    with pytest.raises(BlockRefused, match="does not verify"):
        backup.validate(header_for(block, (forged,)), (forged,))


def test_E5_a_block_of_an_earlier_height_is_refused_again(kit: Any, proposal: Any) -> None:
    backup, _ = proposal
    old = backup.get_block(1)
    assert refuse(backup, old.header_bytes, old.transactions) == "height"


def test_E3_block_time_must_pass_the_parents(kit: Any, proposal: Any) -> None:
    backup, block = proposal
    same = replace(block.header, time_ms=backup.head.header.time_ms)
    assert refuse(backup, encode(same), block.transactions) == "time_ms"


@pytest.mark.parametrize("skew_ms", [-86_400_000, -2_001, 2_001, 86_400_000])
def test_E3_a_fresh_proposal_from_a_clock_that_is_off_is_refused(proposal: Any, skew_ms: int) -> None:
    backup, block = proposal
    fresh = Fresh(proposer=2, wall_ms=block.header.time_ms + skew_ms)
    assert refuse(backup, block.header_bytes, block.transactions, freshness=fresh) == "time_ms"


@pytest.mark.parametrize("skew_ms", [-2_000, 0, 2_000])
def test_E3_a_fresh_proposal_within_the_tolerance_is_accepted(proposal: Any, skew_ms: int) -> None:
    backup, block = proposal
    fresh = Fresh(proposer=2, wall_ms=block.header.time_ms + skew_ms)
    backup.validate(block.header_bytes, block.transactions, freshness=fresh)


def test_E3_re_proposals_and_synced_blocks_are_valid_at_any_hour_and_from_any_proposer(proposal: Any) -> None:
    backup, block = proposal
    assert backup.validate(block.header_bytes, block.transactions, freshness=None).digest == block.digest


def test_E3_one_tick_after_the_parent_passes_for_a_clock_behind_the_parent(kit: Any) -> None:
    chain = kit.open()
    items = (kit.note(b"a"),)
    block = chain.execute(items, proposer=1, time_ms=0)
    parent_ms = chain.head.header.time_ms
    assert block.header.time_ms == parent_ms + 1
    chain.validate(block.header_bytes, items, freshness=Fresh(proposer=1, wall_ms=parent_ms - 86_400_000))
    ahead = Fresh(proposer=1, wall_ms=parent_ms + 86_400_000)
    assert refuse(chain, block.header_bytes, items, freshness=ahead) == "time_ms"


def test_a_fresh_proposal_of_another_than_the_primary_is_refused(proposal: Any) -> None:
    backup, block = proposal
    fresh = Fresh(proposer=1, wall_ms=block.header.time_ms)
    assert refuse(backup, block.header_bytes, block.transactions, freshness=fresh) == "proposer"


def test_a_fresh_empty_block_before_the_idle_interval_is_refused(kit: Any) -> None:
    chain = kit.open()
    parent_ms, idle_ms = chain.head.header.time_ms, kit.parameters.idle_block_interval_ms
    early = chain.execute([], proposer=0, time_ms=parent_ms + idle_ms - 1)
    fresh = Fresh(wall_ms=early.header.time_ms)
    assert refuse(chain, early.header_bytes, (), freshness=fresh) == "time_ms"
    chain.validate(early.header_bytes, ())
    due = chain.execute([], proposer=0, time_ms=parent_ms + idle_ms)
    chain.validate(due.header_bytes, (), freshness=Fresh(wall_ms=due.header.time_ms))


def test_a_validated_block_is_not_executed_again(proposal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backup, block = proposal
    first = backup.validate(block.header_bytes, block.transactions)
    monkeypatch.setattr(backup, "_executor", None)
    assert backup.validate(block.header_bytes, block.transactions) is first


def test_signatures_of_pending_transactions_are_not_verified_again(
    proposal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, block = proposal
    for transaction in block.transactions:
        backup.mempool.verify_and_add(transaction, head_time_ms=backup.head.header.time_ms)

    def verify(transaction: Any) -> None:
        pytest.fail("verified twice")

    monkeypatch.setattr("ledger.chain.verify_transaction_signature", verify)
    backup.validate(block.header_bytes, block.transactions)


def test_speculations_are_bounded_and_a_commit_clears_them(kit: Any) -> None:
    chain = kit.open()
    start_ms = chain.head.header.time_ms
    blocks = [chain.execute([], proposer=0, time_ms=start_ms + step) for step in range(1, 30)]
    held = [block for block in blocks if chain.get_speculation(block.digest)]
    assert held == blocks[-kit.settings.speculations_max :]
    kit.commit(chain)
    assert not any(chain.get_speculation(block.digest) for block in blocks)


def test_two_speculations_on_one_head_do_not_disturb_each_other(kit: Any) -> None:
    chain, other = kit.open(), kit.open("other")
    time_ms = chain.head.header.time_ms + 1
    left = chain.execute([kit.note(b"a", "left")], proposer=0, time_ms=time_ms)
    right = chain.execute([kit.note(b"a", "right")], proposer=0, time_ms=time_ms)
    pending = chain.begin_commit(left.digest, kit.certify(left))
    assert kit.get_note(chain.state, b"a") is None
    pending.write()
    assert kit.get_note(chain.state, b"a") is None, "a read saw a block that is not the head yet"
    chain.finish_commit(pending)
    assert kit.get_note(chain.state, b"a") == "left"
    assert other.validate(left.header_bytes, left.transactions).digest == left.digest
    assert right.header.state_root != left.header.state_root


def test_a_commit_without_its_write_does_not_move_the_head(kit: Any) -> None:
    chain = kit.open()
    block = chain.execute([], proposer=0, time_ms=chain.head.header.time_ms + 1)
    pending = chain.begin_commit(block.digest, kit.certify(block))
    with pytest.raises(ValueError, match="not written"):
        chain.finish_commit(pending)
    assert chain.head.height == 0


def test_a_certificate_of_another_block_commits_nothing(kit: Any) -> None:
    chain = kit.open()
    block = chain.execute([], proposer=0, time_ms=chain.head.header.time_ms + 1)
    other = chain.execute([], proposer=0, time_ms=chain.head.header.time_ms + 2)
    with pytest.raises(ValueError, match="certificate for"):
        chain.begin_commit(block.digest, kit.certify(other))

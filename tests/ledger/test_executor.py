"""Execution: all or nothing for each transaction, and codes instead of texts."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import BudgetExceeded
from ledger import executor
from ledger.errors import BlockRefused, StoreFailed
from ledger.genesis import Parameters


def run(kit: Any, *calls: Any) -> tuple[Any, Any]:
    chain = kit.open()
    committed = kit.commit(chain, kit.sign(*calls))
    return chain, committed.receipts[0]


def test_results_of_all_calls_are_in_the_receipt(kit: Any, arguments: Any) -> None:
    chain, receipt = run(
        kit,
        ("write", arguments.Note(b"a", "1")),
        ("remove", arguments.Note(b"first", "")),
        ("count", arguments.Prefix(b"")),
    )
    assert receipt.code == "ok"
    assert receipt.results[1:] == (b"", b"\x01")
    assert kit.get_note(chain.state, b"first") is None
    assert len(receipt.events) == 1


@pytest.mark.parametrize(
    ("method", "code"),
    [("refuse", "not_permitted"), ("fault", "contract_fault"), ("missing", "unknown_method")],
)
def test_a_failing_call_undoes_its_whole_transaction(
    kit: Any, arguments: Any, method: str, code: str
) -> None:
    chain, receipt = run(kit, ("write", arguments.Note(b"a", "1")), (method, arguments.Nothing()))
    assert (receipt.code, receipt.results, receipt.events) == (code, (), ())
    assert kit.get_note(chain.state, b"a") is None
    assert kit.get_note(chain.state, b"refused") is None
    assert kit.get_note(chain.state, b"fault") is None
    assert chain.find_end(receipt.transaction_id).status == "failed"


def test_a_failed_transaction_does_not_touch_its_neighbours(kit: Any, arguments: Any) -> None:
    chain = kit.open()
    committed = kit.commit(
        chain, kit.note(b"a", "1"), kit.sign(("fault", arguments.Nothing())), kit.note(b"b", "2")
    )
    assert [receipt.code for receipt in committed.receipts] == ["ok", "contract_fault", "ok"]
    assert (kit.get_note(chain.state, b"a"), kit.get_note(chain.state, b"b")) == ("1", "2")


def test_later_transactions_of_a_block_see_and_scan_what_earlier_ones_wrote(kit: Any, arguments: Any) -> None:
    chain = kit.open()
    scan = ("keys", arguments.Prefix(b"n"))
    kit.commit(chain, kit.note(b"n2"), kit.note(b"n4"))
    committed = kit.commit(
        chain,
        kit.sign(scan),
        kit.note(b"n3"),
        kit.sign(scan),
        kit.note(b"n5"),
        kit.sign(("remove", arguments.Note(b"n2", ""))),
        kit.note(b"n1"),
        kit.sign(scan),
    )
    listed = [receipt.results[0][2:] for receipt in committed.receipts if receipt.results[0][:1] == b"\xc4"]
    assert listed == [b"n2,n4", b"n2,n3,n4", b"n1,n3,n4,n5"]
    newer = [kit.note(b"n%d" % number) for number in (9, 7, 8, 6)]
    committed = kit.commit(chain, *newer, kit.sign(scan))
    assert committed.receipts[4].results[0][2:] == b"n1,n3,n4,n5,n6,n7,n8,n9"


def test_an_unknown_contract_is_a_failed_receipt(kit: Any, arguments: Any) -> None:
    chain = kit.open()
    committed = kit.commit(chain, kit.sign(("write", arguments.Note(b"a", "")), contract_name="nothing"))
    assert committed.receipts[0].code == "unknown_method"


def test_arguments_of_the_wrong_type_are_a_failed_receipt(kit: Any, arguments: Any) -> None:
    _, receipt = run(kit, ("write", arguments.Nothing()))
    assert receipt.code == "bad_arguments"


def test_a_call_that_must_be_alone_fails_in_company(kit: Any, arguments: Any) -> None:
    hermit = ("hermit", arguments.Nothing())
    _, receipt = run(kit, hermit, ("write", arguments.Note(b"a", "")))
    assert receipt.code == "not_alone"


def test_a_call_that_must_be_alone_succeeds_alone(kit: Any, arguments: Any) -> None:
    _, receipt = run(kit, ("hermit", arguments.Nothing()))
    assert receipt.code == "ok"


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("break_memory", MemoryError),
        ("break_recursion", RecursionError),
        ("break_disk", OSError),
        ("break_store", StoreFailed),
    ],
)
def test_what_is_not_the_contracts_fault_halts_instead_of_becoming_a_receipt(
    kit: Any, arguments: Any, method: str, fault: type[Exception]
) -> None:
    chain = kit.open()
    with pytest.raises(fault):
        chain.execute([kit.sign((method, arguments.Nothing()))], proposer=0, time_ms=kit.genesis.time_ms + 1)


def test_a_call_beyond_its_budget_fails(kit: Any, arguments: Any) -> None:
    chain = kit.open()
    kit.commit(chain, *(kit.note(b"%d" % number, "x" * 4_000) for number in range(300)))
    committed = kit.commit(chain, kit.sign(("count", arguments.Prefix(b""))))
    assert committed.receipts[0].code == BudgetExceeded.code


def test_a_block_takes_no_more_transactions_than_the_genesis_allows(make_kit: Any) -> None:
    kit = make_kit(parameters=Parameters(state_buckets_log2=4, block_transactions_max=3))
    chain = kit.open()
    items = [kit.note(b"%d" % number) for number in range(5)]
    block = chain.execute(items, proposer=0, time_ms=kit.genesis.time_ms + 1)
    assert list(block.transactions) == items[:3]
    assert block.transaction_hashes == tuple(item.signed_hash for item in items[:3])


def test_a_block_takes_no_more_bytes_than_the_genesis_allows(make_kit: Any) -> None:
    kit = make_kit(parameters=Parameters(state_buckets_log2=4, block_bytes_max=33_000))
    chain = kit.open()
    items = [kit.note(b"%d" % number, "x" * 12_000) for number in range(5)]
    block = chain.execute(items, proposer=0, time_ms=kit.genesis.time_ms + 1)
    assert list(block.transactions) == items[:2]


def test_no_transaction_starts_once_the_blocks_row_operations_are_spent(
    kit: Any, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "OPERATIONS_PER_BLOCK_MAX", 10_000)
    chain = kit.open()
    items = [kit.sign(("spend", arguments.Nothing())) for _ in range(5)]
    block = chain.execute(items, proposer=0, time_ms=kit.genesis.time_ms + 1)
    assert list(block.transactions) == items[:3]
    monkeypatch.setattr(executor, "OPERATIONS_PER_BLOCK_MAX", 8_000)
    chain.discard(block.digest)
    with pytest.raises(BlockRefused, match="row operations"):
        chain.validate(block.header_bytes, block.transactions)


def test_what_a_block_may_not_hold_is_left_out_when_building_it(kit: Any) -> None:
    chain = kit.open()
    time_ms = kit.genesis.time_ms + 1_000
    committed, good = kit.note(b"old"), kit.note(b"good")
    kit.commit(chain, committed, time_ms=time_ms - 1)
    offered = [
        kit.note(b"chain", chain_id=b"c" * 32),
        kit.note(b"expired", expires_ms=time_ms),
        kit.note(b"late", expires_ms=time_ms + kit.parameters.expiry_window_ms_max + 1),
        committed,
        good,
        good,
    ]
    block = chain.execute(offered, proposer=0, time_ms=time_ms)
    assert block.transactions == (good,)

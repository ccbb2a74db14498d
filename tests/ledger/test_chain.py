"""One node's ledger: build, validate, commit, restart, and how transactions end."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from crypto.signatures import SigningKey
from ledger import layout
from ledger.chain import Chain
from ledger.errors import GenesisMismatch, NotHeld, StoreFailed
from ledger.settings import LedgerSettings, StoreSettings
from ledger.store import Store
from ledger.transaction import TransactionRefused


def test_block_0_holds_the_contracts_first_rows_and_survives_a_restart(kit: Any) -> None:
    chain = kit.open()
    assert chain.head.height == 0
    assert chain.head.header.time_ms == kit.genesis.time_ms
    assert kit.get_note(chain.state, b"first") == "test"
    digest = chain.head.digest
    chain.close()
    assert kit.open().head.digest == digest


def test_committed_transactions_have_receipts_state_and_events(kit: Any) -> None:
    chain = kit.open()
    heard: list[Any] = []
    chain.subscribe(heard.append)
    transaction = kit.note(b"a", "hello")
    committed = kit.commit(chain, transaction)
    assert chain.head.height == 1
    assert chain.head.digest == committed.digest
    assert kit.get_note(chain.state, b"a") == "hello"
    receipt = chain.get_receipt(transaction.transaction_id)
    assert receipt == committed.receipts[0]
    assert (receipt.code, receipt.height, receipt.index) == ("ok", 1, 0)
    assert [event.name for _, event in committed.events] == ["written"]
    assert heard == [committed]
    assert chain.get_transaction(transaction.transaction_id) == transaction
    assert chain.get_block(1).transactions == (transaction,)
    assert chain.get_certificate(1).digest == committed.digest
    assert chain.find_end(transaction.transaction_id).status == "committed"


def test_a_reopened_ledger_has_the_same_head_roots_and_goes_on(kit: Any) -> None:
    chain = kit.open()
    for height in range(1, 6):
        kit.commit(chain, *(kit.note(b"%d/%d" % (height, number)) for number in range(height * 7)))
    head = chain.head
    chain.close()
    again = kit.open()
    assert again.head == head
    kit.commit(again, kit.note(b"later"))
    assert again.head.height == 6


def test_a_commit_of_an_unknown_block_is_refused(kit: Any) -> None:
    chain = kit.open()
    block = chain.execute([], proposer=0, time_ms=kit.genesis.time_ms + 1)
    chain.discard(block.digest)
    with pytest.raises(NotHeld, match="validate it first"):
        chain.begin_commit(block.digest, kit.certify(block))


def test_a_ledger_does_not_open_under_another_genesis(kit: Any, make_kit: Any) -> None:
    kit.open().close()
    other = make_kit(replica_count=7)
    with pytest.raises(GenesisMismatch, match="another genesis"):
        Chain.open(kit.directory / "ledger", other.genesis, contract_set=kit.contract_set)


@pytest.mark.parametrize("table", [layout.BUCKET, layout.HEAD])
def test_P8_rows_that_do_not_make_the_heads_roots_stop_the_start(kit: Any, table: bytes) -> None:
    chain = kit.open()
    for number in range(3):
        kit.commit(chain, kit.note(b"%d" % number))
    chain.close()
    store = Store.open(kit.directory / "ledger", StoreSettings())
    key, row = next(store.snapshot().scan(table))
    store.write([(key, row[:-1] + bytes((row[-1] ^ 1,)))])
    store.close()
    with pytest.raises(StoreFailed):
        kit.open()


def test_P4_a_block_is_written_in_one_synced_batch(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = kit.open()
    writes: list[tuple[set[bytes], bool]] = []
    write = chain._store.write

    def record(puts: Any, deletes: Any = (), *, is_synced: bool = True) -> None:
        puts = list(puts)
        writes.append(({key[:1] for key, _ in puts}, is_synced))
        write(puts, deletes, is_synced=is_synced)

    monkeypatch.setattr(chain._store, "write", record)
    kit.commit(chain, kit.note(b"a"))
    assert writes == [({b"o", b"h", b"c", b"t", b"r", b"i", b"s", b"k", b"l"}, True)]


def test_P7_a_failed_write_leaves_the_head_and_kills_the_store(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = kit.open()
    block = chain.execute([kit.note(b"a")], proposer=0, time_ms=chain.head.header.time_ms + 1)
    pending = chain.begin_commit(block.digest, kit.certify(block))

    class Full:
        def write_batch(self, *, sync: bool) -> Any:
            raise OSError(28, "no space left on device")

        def close(self) -> None: ...

    database = chain._store._database
    monkeypatch.setattr(chain._store, "_database", Full())
    with pytest.raises(StoreFailed, match="no space left"):
        pending.write()
    database.close()
    with pytest.raises(ValueError, match="not written"):
        chain.finish_commit(pending)
    with pytest.raises(StoreFailed):
        chain.get_block(0)
    again = kit.open()
    assert again.head.height == 0
    kit.commit(again, kit.note(b"a"))


def test_a_subscriber_hears_nothing_after_it_has_left(kit: Any) -> None:
    chain = kit.open()
    heard: list[Any] = []
    leave = chain.subscribe(heard.append)
    kit.commit(chain)
    leave()
    kit.commit(chain)
    assert [block.header.height for block in heard] == [1]


def test_reads_of_what_is_not_there_are_none(kit: Any) -> None:
    chain = kit.open()
    assert chain.get_block(1) is chain.get_header(1) is chain.get_certificate(1) is None
    assert chain.get_block(-1) is None
    assert chain.get_receipt(b"t" * 32) is chain.get_transaction(b"t" * 32) is None
    assert chain.archive.get_receipts(7) == chain.archive.get_signed_transactions(7) == ()


def test_cached_rows_are_bounded_and_never_stale(make_kit: Any) -> None:
    kit = make_kit(settings=LedgerSettings(cached_rows_max=4))
    chain = kit.open()
    for height in range(5):
        kit.commit(chain, *(kit.note(b"%d" % number, f"{height}") for number in range(9)))
        assert [kit.get_note(chain.state, b"%d" % number) for number in range(9)] == [f"{height}"] * 9
    assert len(chain.state._cache) == 4


def test_a_scan_begun_before_a_commit_shows_the_head_it_began_on(kit: Any, arguments: Any) -> None:
    chain = kit.open()
    kit.commit(chain, kit.note(b"a"), kit.note(b"c"))
    rows = arguments.notes.scan(chain.state)
    assert next(rows)[0] == b"a"
    kit.commit(chain, kit.note(b"b"))
    assert [key for key, _ in rows] == [b"c", b"first"]
    assert [key for key, _ in arguments.notes.scan(chain.state)] == [b"a", b"b", b"c", b"first"]


def test_a_sender_that_a_block_makes_unknown_is_refused_from_then_on(
    kit: Any,
) -> None:
    known = {kit.sender.public_key: bytes(16)}
    kit.contract_set = dataclasses.replace(
        kit.contract_set, find_institution=lambda state, public_key: known.get(public_key)
    )
    chain = kit.open()
    chain.mempool.add(kit.note(b"a"), head_time_ms=chain.head.header.time_ms)
    known.clear()
    kit.commit(chain)
    with pytest.raises(TransactionRefused) as refusal:
        chain.mempool.add(kit.note(b"b"), head_time_ms=chain.head.header.time_ms)
    assert refusal.value.code == "unknown_sender"


def test_remembered_senders_are_bounded(make_kit: Any) -> None:
    kit = make_kit(settings=LedgerSettings(known_senders_max=3))
    chain = kit.open()
    for number in range(10):
        with pytest.raises(TransactionRefused):
            chain.mempool.check(
                kit.note(b"a", by=SigningKey(bytes((number + 80,)) * 32)),
                head_time_ms=chain.head.header.time_ms,
            )
    assert len(chain._committed.known_senders._answers) <= 3

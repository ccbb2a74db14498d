"""Old blocks go, the disk shrinks, and everything that matters of them stays proved."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from consensus.replica_set import ReplicaId
from crypto.merkle import verify_inclusion
from ledger import pruning, snapshot_keeper
from ledger.block_sync import serve_blocks
from ledger.chain import Chain
from ledger.errors import NotHeld, StoreFailed
from ledger.genesis import Parameters
from ledger.history_tree import compute_path
from ledger.pacing import Pacer
from ledger.proofs import ReceiptProof, decode_proof, verify_proof
from ledger.receipt import compute_history_leaf_hash, decode_receipt
from ledger.settings import LedgerSettings, SnapshotSettings, StoreSettings
from ledger.snapshot_holds import SnapshotHolds
from ledger.snapshot_keeper import REQUEST_FILE, SnapshotKeeper
from ledger.snapshot_shelf import SnapshotShelf, list_heights
from tests.ledger.conftest import Kit

WINDOW_MS = 5_000


@pytest.fixture
def kit(make_kit: Callable[..., Kit]) -> Kit:
    return make_kit(
        parameters=Parameters(state_buckets_log2=8, expiry_window_ms_max=WINDOW_MS),
        settings=LedgerSettings(store=StoreSettings(write_buffer_bytes=65_536)),
    )


def commit(kit: Kit, chain: Chain, count: int = 3, size: int = 10) -> list[bytes]:
    """One block; the ids of its transactions."""
    expires_ms = chain.head.header.time_ms + WINDOW_MS
    notes = [
        kit.note(secrets.token_bytes(8), secrets.token_hex(size // 2), expires_ms=expires_ms)
        for _ in range(count)
    ]
    kit.commit(chain, *notes)
    return [note.transaction_id for note in notes]


def measure(directory: Path) -> int:
    size_bytes = 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # LevelDB removes files in a thread of its own.
            size_bytes += path.stat().st_size
    return size_bytes


def test_pruned_blocks_are_gone_and_old_receipts_still_verify(kit: Kit) -> None:
    chain = kit.open()
    ids = [commit(kit, chain) for _ in range(20)]
    old = chain.prove_receipt(ids[4][1]).encode()
    state = dict(chain.state.scan(b""))
    assert chain.prune(11, Pacer(rest_seconds=0)) == 10
    assert chain.prune(11, Pacer()) == 0
    commit(kit, chain)  # Readers see it from the next block on.
    chain.compact()
    assert verify_proof(decode_proof(old), kit.chain_id)
    assert chain.archive.get_base() == 11
    for height in range(1, 11):
        assert chain.get_block(height) is None
        assert chain.get_certificate(height) is None
        assert chain.archive.get_receipts(height) == ()
    for transaction_id in (*ids[0], *ids[9]):
        assert chain.get_receipt(transaction_id) is None
        with pytest.raises(NotHeld):
            chain.prove_receipt(transaction_id)
    assert chain.get_block(11) is not None
    assert verify_proof(decode_proof(chain.prove_receipt(ids[10][0]).encode()), kit.chain_id)
    assert state.items() <= dict(chain.state.scan(b"")).items()
    # A path to the root of today can be given for a receipt whose block is gone.
    proof = decode_proof(old)
    leaf = 4 * 3 + 1
    assert isinstance(proof, ReceiptProof)
    path = compute_path(chain.archive.rows, leaf, 63)
    leaf_hash = compute_history_leaf_hash(decode_receipt(proof.receipt).transaction_id, proof.receipt)
    verify_inclusion(leaf_hash=leaf_hash, index=leaf, size=63, path=path, root=chain.head.header.history_root)
    kit.chains.remove(chain)
    chain.close()
    again = kit.open()
    assert again.archive.get_base() == 11
    assert again.head.height == 21


def test_the_disk_really_shrinks(kit: Kit) -> None:
    chain = kit.open()
    for _ in range(40):
        commit(kit, chain, count=10, size=4_000)
    chain.prune(39, Pacer(rest_seconds=0))
    commit(kit, chain)
    before = measure(kit.directory / "ledger")
    chain.compact()
    after = measure(kit.directory / "ledger")
    # Every note stands in its transaction and in the state; only the transactions could go.
    assert before - after > 0.8 * 38 * 10 * 4_000 / 2


def test_a_node_that_is_stopped_amid_pruning_holds_whole_blocks_only(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = kit.open()
    for _ in range(8):
        commit(kit, chain, count=1)

    class Stopping(Pacer):
        def pause(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(pruning, "DELETES_MAX", 1)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            chain.prune(7, Stopping())
    kit.chains.remove(chain)
    chain.close()
    again = kit.open()
    assert again.archive.get_base() == 4
    assert again.get_block(3) is None
    assert all(again.get_block(height) is not None for height in range(4, 9))


def test_a_pruned_node_gives_no_block_that_it_has_not(kit: Kit) -> None:
    chain = kit.open()
    for _ in range(8):
        commit(kit, chain)
    chain.prune(5, Pacer())
    commit(kit, chain)
    assert serve_blocks(chain, 1, count_max=100, bytes_max=1 << 20) == []
    assert serve_blocks(chain, 4, count_max=100, bytes_max=1 << 20) == []
    heights = [block.certificate.height for block in serve_blocks(chain, 5, count_max=99, bytes_max=1 << 20)]
    assert heights == [5, 6, 7, 8, 9]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_keeper_writes_at_multiples_prunes_to_the_oldest_window_and_compacts(
    kit: Kit, tmp_path: Path
) -> None:
    chain, failures = kit.open(), list[BaseException]()
    shelf = SnapshotShelf(tmp_path / "snapshots")
    settings = SnapshotSettings(interval_blocks=10, kept_max=2, keep_blocks=3)
    keeper = SnapshotKeeper(chain, shelf, settings, on_failure=failures.append)
    for height in range(1, 41):
        commit(kit, chain)
        wait_for(lambda: keeper.is_idle)
        if height == 25:
            assert list_heights(shelf.directory) == [10, 20]
            assert chain.archive.get_base() == 5  # All had expired at height 10 that is in block 5.
    assert list_heights(shelf.directory) == [30, 40]
    commit(kit, chain)
    assert chain.archive.get_base() == 25
    assert keeper.counters.written == 4
    assert keeper.counters.pruned_blocks == 24
    shelf.directory.joinpath(REQUEST_FILE).touch()
    commit(kit, chain)
    wait_for(lambda: keeper.is_idle)
    commit(kit, chain)
    wait_for(lambda: keeper.is_idle)
    assert list_heights(shelf.directory)[-1] in {42, 43}
    keeper.close()
    commit(kit, chain)
    assert failures == []


def test_what_a_node_is_fetching_stays_with_its_blocks_though_neither_for_good_nor_without_bound(
    kit: Kit, tmp_path: Path
) -> None:
    chain, failures, now = kit.open(), list[BaseException](), 0.0
    shelf = SnapshotShelf(tmp_path / "snapshots")
    shelf.holds = SnapshotHolds(lambda: now)
    settings = SnapshotSettings(
        interval_blocks=10, kept_max=1, keep_blocks=1, held_max=2, held_seconds=60, held_blocks_max=50
    )
    keeper = SnapshotKeeper(chain, shelf, settings, on_failure=failures.append)
    slow, other, third = 1, 2, 3
    kept: dict[int, list[int]] = {}
    for height in range(1, 91):
        commit(kit, chain)
        wait_for(lambda: keeper.is_idle)
        kept[height] = list_heights(shelf.directory)
        match height:
            case 10:
                shelf.holds.hold(ReplicaId(slow), b"slow", 10)
            case 20:
                assert chain.archive.get_base() == 5  # The window of the one that is held.
                shelf.holds.hold(ReplicaId(other), b"other", 20)
            case 30:
                shelf.holds.hold(ReplicaId(third), b"third", 30)
            case 60:
                shelf.holds.hold(ReplicaId(slow), b"slow", 10)  # It asks for ever.
            case 70:
                now += 61
    keeper.close()
    assert kept[20] == [10, 20]
    assert kept[30] == [10, 20, 30]
    assert kept[40] == [10, 20, 40]  # No third one beside the newest.
    assert kept[60] == [10, 20, 60]
    assert kept[70] == [20, 70]  # More than 50 blocks below the head.
    assert kept[80] == [80]  # Nobody has asked for it for a minute.
    assert failures == []


def test_each_node_holds_the_snapshot_that_it_asked_for_last() -> None:
    now, heights = 0.0, range(100)
    holds = SnapshotHolds(lambda: now)
    holds.hold(ReplicaId(1), b"a", 10)
    holds.hold(ReplicaId(2), b"b", 10)
    holds.hold(ReplicaId(1), b"a", 20)
    assert holds.list_held(60, heights) == [10, 20]
    assert holds.list_held(60, range(11, 100)) == [20]
    now = 50.0
    holds.hold(ReplicaId(1), b"a", 30)
    now = 61.0
    assert holds.list_held(60, heights) == [30]


def test_d1_all_nodes_of_one_institution_hold_one_snapshot() -> None:
    """It registers them without a vote: together they must not take the places of the others."""
    holds = SnapshotHolds(lambda: 0.0)
    for replica, height in ((7, 20), (8, 10), (9, 30)):
        holds.hold(ReplicaId(replica), b"many", height)
    holds.hold(ReplicaId(1), b"one", 40)
    assert holds.list_held(60, range(100)) == [10, 40]
    assert holds.list_held(60, range(11, 100)) == [20, 40]


def test_without_a_place_for_snapshots_the_node_goes_on_and_a_failed_database_stops_it(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, failures = kit.open(), list[BaseException]()
    (tmp_path / "snapshots").write_text("a file where a folder should be")
    keeper = SnapshotKeeper(
        chain,
        SnapshotShelf(tmp_path / "snapshots"),
        SnapshotSettings(interval_blocks=1),
        on_failure=failures.append,
    )
    commit(kit, chain)
    wait_for(lambda: keeper.is_idle)
    assert keeper.counters.failed == 1
    assert failures == []
    (tmp_path / "snapshots").unlink()
    block = chain.execute([], proposer=0, time_ms=chain.head.header.time_ms + 1)
    pending = chain.begin_commit(block.digest, kit.certify(block))
    pending.write()
    store = chain._store
    monkeypatch.setattr(
        snapshot_keeper, "export_snapshot", lambda *rows, **more: store.fail(OSError(5, "EIO"))
    )
    chain.finish_commit(pending)
    wait_for(lambda: keeper.is_idle)
    keeper.close()
    assert [type(failure) for failure in failures] == [StoreFailed]

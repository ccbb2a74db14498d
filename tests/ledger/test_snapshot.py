"""A snapshot holds all that a node needs to go on, and nothing in it is believed that cannot be checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consensus.certificates import Certificate
from crypto.encoding import encode
from ledger import layout, snapshot_export
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.errors import NotHeld, SnapshotRefused
from ledger.genesis import Parameters
from ledger.pacing import Pacer, WorkStopped
from ledger.settings import StoreSettings
from ledger.snapshot import (
    CertifiedHeader,
    WindowBlock,
    decode_manifest,
    read_history_chunk,
    verify_manifest,
)
from ledger.snapshot_export import CHUNKS_FILE, MANIFEST_FILE, export_snapshot
from ledger.snapshot_install import install_snapshot
from ledger.snapshot_shelf import SnapshotShelf, list_heights, remove_oldest
from ledger.state_chunk import decode_state_chunk, encode_state_chunk
from ledger.store import Store
from tests.ledger.conftest import Kit
from tests.ledger.snapshot_source import WINDOW_MS, Source, make_source


@pytest.fixture
def source(make_kit: Callable[..., Kit], tmp_path: Path) -> Iterator[Source]:
    """Thirty blocks a second apart, of which the last ten are in the window."""
    kit = make_kit(parameters=Parameters(state_buckets_log2=8, expiry_window_ms_max=WINDOW_MS))
    made = make_source(kit, tmp_path / "snapshots")
    yield made
    made.shelf.close()


def test_a_ledger_built_from_a_snapshot_has_the_same_head_state_and_history(source: Source) -> None:
    with source.copy(source.kit.directory / "chunks") as chunks:
        joined = source.install("joined", chunks)
    chain = source.chain
    assert joined.head == chain.head
    assert list(joined.state.scan(b"")) == list(chain.state.scan(b""))
    assert source.verified.base == joined.archive.get_base() == 20
    for height in range(20, 31):
        assert joined.archive.get_block(height) == chain.archive.get_block(height)
        assert joined.archive.get_receipts(height) == chain.archive.get_receipts(height)
        assert joined.get_certificate(height) == chain.get_certificate(height)
    assert joined.get_block(19) is None
    # Leaf hashes and interior hashes serve for receipts of every age.
    source.kit.commit(chain, source.kit.note(b"after", expires_ms=chain.head.header.time_ms + WINDOW_MS))
    assert read_history_chunk(joined.archive.rows, 0, 150) == read_history_chunk(chain.archive.rows, 0, 150)


def test_a_joined_ledger_commits_the_blocks_that_follow_and_refuses_what_was_committed_before(
    source: Source,
) -> None:
    kit, chain = source.kit, source.chain
    recent = chain.archive.get_block(29)
    assert recent is not None
    with source.copy(kit.directory / "chunks") as chunks:
        joined = source.install("joined", chunks)
    fresh = kit.note(b"fresh", expires_ms=chain.head.header.time_ms + WINDOW_MS)
    for ledger in (chain, joined):
        block = ledger.execute(
            [*recent.transactions, fresh], proposer=0, time_ms=ledger.head.header.time_ms + 1
        )
        assert block.transactions == (fresh,)  # The rest are in the window: a second time would be a fork.
    headers = [kit.commit(ledger, fresh).header for ledger in (chain, joined)]
    assert headers[0] == headers[1]
    assert joined.prove_receipt(fresh.transaction_id) == chain.prove_receipt(fresh.transaction_id)
    assert joined.prove_receipt(recent.transactions[0].transaction_id)
    with pytest.raises(NotHeld):
        joined.prove_receipt(b"\0" * 32)


def test_a_snapshot_of_a_joined_ledger_has_the_same_parts(source: Source, tmp_path: Path) -> None:
    with source.copy(source.kit.directory / "chunks") as chunks:
        joined = source.install("joined", chunks)
    again = Source(source.kit, joined, SnapshotShelf(tmp_path / "again"))
    assert again.manifest == source.manifest
    for kind, number in source.list_names():
        assert again.read(kind, number) == source.read(kind, number)
    again.shelf.close()


def test_a_young_ledger_is_transferred_whole(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    kit = make_kit()
    chain = kit.open("source")
    kit.commit(chain, kit.note(b"only"))
    young = Source(kit, chain, SnapshotShelf(tmp_path / "snapshots"))
    assert young.manifest.base == ()
    with young.copy(tmp_path / "chunks") as chunks:
        joined = young.install("joined", chunks)
    assert joined.head == chain.head
    assert joined.archive.get_base() == 1
    young.shelf.close()


def change(chunk: bytes, at: int) -> bytes:
    return chunk[:at] + bytes((chunk[at] ^ 1,)) + chunk[at + 1 :]


def test_no_changed_state_chunk_is_taken(source: Source) -> None:
    verified = source.verified
    subtrees = verified.list_subtrees()
    chunk = source.read(ChunkKind.STATE, subtrees[0])
    items = layout.decode_items(chunk)
    lies = [change(chunk, at) for at in range(len(chunk))]
    lies += [chunk[:-1], b"", layout.encode_items(items * 2), layout.encode_items(items[:1])]
    lies += [source.read(ChunkKind.STATE, subtrees[1]), encode_state_chunk([])]
    for lie in lies:
        with pytest.raises(SnapshotRefused):
            verified.verify_state_node(subtrees[0], decode_state_chunk(lie, subtrees[0], verified.plan).node)


def test_no_changed_history_chunk_is_taken(source: Source) -> None:
    chunk = source.read(ChunkKind.HISTORY, 0)
    for lie in (change(chunk, 7), chunk[:-32], chunk + chunk[:32], b""):
        with pytest.raises(SnapshotRefused):
            source.verified.verify_history_chunk(0, lie)


def test_no_changed_block_and_no_changed_receipt_is_taken(source: Source) -> None:
    chunk = source.read(ChunkKind.BLOCK, 25)
    block = msgspec.msgpack.decode(chunk, type=WindowBlock)
    other = msgspec.msgpack.decode(source.read(ChunkKind.BLOCK, 26), type=WindowBlock)
    replace = msgspec.structs.replace
    lies = [
        replace(block, header=change(block.header, 60)),
        replace(block, certificate=other.certificate),
        replace(block, transactions=block.transactions[:-1]),
        replace(block, transactions=other.transactions),
        replace(block, receipts=block.receipts[:-1]),
        replace(block, receipts=other.receipts),
        replace(block, receipts=(b"garbage", *block.receipts[1:])),
        other,
    ]
    for lie in lies:
        with pytest.raises(SnapshotRefused):
            source.verified.verify_window_block(25, encode(lie))
    verified = source.verified.verify_window_block(25, chunk)
    leaves = [source.read(ChunkKind.HISTORY, 0)[at * 32 : at * 32 + 32] for at in range(120, 125)]
    verified.verify_receipts(leaves)
    with pytest.raises(SnapshotRefused):
        verified.verify_receipts(leaves[::-1])


def test_a_block_outside_of_the_window_is_refused_though_it_is_certified(source: Source) -> None:
    archive = source.chain.archive
    for height in (19, 20, 21):
        header, certificate = archive.get_header_bytes(height), archive.get_certificate(height)
        assert header is not None
        assert certificate is not None
        block = WindowBlock(
            header, certificate, archive.get_signed_transactions(height), archive.get_receipt_rows(height)
        )
        if height == 19:
            with pytest.raises(SnapshotRefused):
                source.verified.verify_window_block(height, encode(block))
        else:
            source.verified.verify_window_block(height, encode(block))


def certified(source: Source, height: int) -> CertifiedHeader:
    header, certificate = source.chain.archive.get_header_bytes(height), source.chain.get_certificate(height)
    assert header is not None
    assert isinstance(certificate, Certificate)
    return CertifiedHeader(header, certificate)


def test_no_manifest_is_taken_that_the_genesis_does_not_vouch_for(source: Source) -> None:
    manifest = source.manifest
    alone = Certificate(0, 30, 0, manifest.head.certificate.digest, manifest.head.certificate.signatures[:2])
    lies: list[dict[str, Any]] = [
        {"head": CertifiedHeader(manifest.head.header, alone)},
        {"head": certified(source, 29)},
        {"state_nodes": change(manifest.state_nodes, 40)},
        {"state_nodes": manifest.state_nodes[32:]},
        {"state_nodes": manifest.state_nodes + manifest.state_nodes},
        {"history_nodes": change(manifest.history_nodes, 3)},
        {"history_nodes": b""},
        {"base": (certified(source, 19), certified(source, 20))},  # Too low: never-ending.
        {"base": (certified(source, 21), certified(source, 22))},  # Too high: a transaction could come twice.
        {"base": (certified(source, 20), certified(source, 22))},
        {"base": (certified(source, 20),)},
    ]
    for lie in lies:
        with pytest.raises(SnapshotRefused):
            verify_manifest(msgspec.structs.replace(manifest, **lie), source.kit.genesis)
    for garbage in (b"", b"\x90", source.offered.manifest[:-1]):
        with pytest.raises(SnapshotRefused):
            decode_manifest(garbage)


def test_an_interrupted_installation_leaves_the_ledger_that_was_there(source: Source) -> None:
    kit = source.kit
    before = kit.open("joined").head
    kit.chains.pop().close()

    class Interrupted(Exception):
        pass

    class Interrupting(Pacer):
        def pause(self) -> None:
            raise Interrupted

    with source.copy(kit.directory / "chunks") as chunks:
        with pytest.raises(Interrupted):
            install_snapshot(
                source.verified,
                chunks,
                ledger_directory=kit.directory / "joined",
                contract_set=kit.contract_set,
                settings=StoreSettings(),
                pacer=Interrupting(),
            )
        assert kit.open("joined").head == before
        kit.chains.pop().close()
        assert source.install("joined", chunks).head == source.chain.head


def test_a_replaced_ledger_that_has_blocks_is_kept_and_an_empty_one_is_not(source: Source) -> None:
    kit = source.kit
    behind = kit.open("joined")
    kit.commit(behind, kit.note(b"only here"))
    kit.chains.remove(behind)
    behind.close()
    with source.copy(kit.directory / "chunks") as chunks:
        assert source.install("joined", chunks).head.height == 30
        kept = kit.open("joined.until-1")
        assert kept.get_block(1) is not None
        kit.open("empty")
        kit.chains.pop().close()
        source.install("empty", chunks)
    names = {path.name for path in kit.directory.iterdir() if path.is_dir()}
    assert names == {"source", "joined", "joined.until-1", "empty"}


def test_a_part_that_is_missing_or_damaged_is_named(source: Source) -> None:
    path = source.kit.directory / "chunks"
    source.copy(path).close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with ChunkFile(path) as chunks, pytest.raises(SnapshotRefused, match="chunk"):
        source.install("joined", chunks)


def test_export_deals_rows_out_to_files_and_gives_up_when_told(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(snapshot_export, "SPILL_BUFFER_BYTES", 100)
    small = Source(source.kit, source.chain, SnapshotShelf(tmp_path / "small"))
    names = sorted(path.name for path in (tmp_path / "small" / "30").iterdir())
    assert names == sorted([CHUNKS_FILE, MANIFEST_FILE])
    assert small.manifest == source.manifest
    small.shelf.close()
    pacer = Pacer()
    pacer.stop()
    with pytest.raises(WorkStopped):
        export_snapshot(
            source.chain.archive.rows, source.kit.genesis, height=30, shelf=tmp_path / "none", pacer=pacer
        )
    assert list_heights(tmp_path / "none") == []


def test_export_refuses_rows_that_do_not_make_the_certified_state(source: Source, tmp_path: Path) -> None:
    store: Store = source.chain._store
    (key, row), *_ = store.snapshot().scan(layout.STATE)
    store.write([(key, row + b"!")])
    with pytest.raises(Exception, match="sync the node anew"):
        export_snapshot(
            store.snapshot(), source.kit.genesis, height=30, shelf=tmp_path / "bad", pacer=Pacer()
        )
    assert list_heights(tmp_path / "bad") == []


def test_the_shelf_offers_the_newest_and_lets_the_oldest_go(source: Source) -> None:
    shelf, directory = source.shelf, source.shelf.directory
    kit, chain = source.kit, source.chain
    for _ in range(2):
        kit.commit(chain)
        export_snapshot(
            chain.archive.rows, kit.genesis, height=chain.head.height, shelf=directory, pacer=Pacer()
        )
    (directory / "making").mkdir()
    (directory / "request").touch()
    assert list_heights(directory) == [30, 31, 32]
    remove_oldest(directory, 2)
    assert list_heights(directory) == [31, 32]
    assert shelf.open(30) is None
    newest = shelf.open_newest()
    assert newest is not None
    assert newest.height == 32
    assert newest is shelf.open(32)


def test_a_node_whose_ledger_was_replaced_gives_no_part_that_it_has_not(source: Source) -> None:
    emptied = source.kit.open("emptied")
    for kind, number in source.list_names():
        assert source.offered.read(kind, number, emptied.archive) is None


def test_a_chunk_file_drops_a_torn_tail_and_forgets_what_was_damaged(tmp_path: Path) -> None:
    path = tmp_path / "chunks"
    with ChunkFile(path) as chunks:
        chunks.append(ChunkKind.STATE, 1, b"one")
        chunks.append(ChunkKind.BLOCK, 2, b"two" * 100)
        chunks.append(ChunkKind.STATE, 1, b"newer")
        assert chunks.read(ChunkKind.STATE, 1) == b"newer"
        assert len(chunks) == 2
    whole = path.read_bytes()
    for cut in range(1, 22):
        path.write_bytes(whole[:-cut])
        with ChunkFile(path) as chunks:
            assert chunks.read(ChunkKind.STATE, 1) == b"one"
            assert chunks.get_length(ChunkKind.BLOCK, 2) == 300
            chunks.append(ChunkKind.HISTORY, 0, b"three")
        with ChunkFile(path) as chunks:
            assert chunks.read(ChunkKind.HISTORY, 0) == b"three"
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with ChunkFile(path) as chunks:
        assert (ChunkKind.STATE, 1) in chunks
        assert chunks.read(ChunkKind.STATE, 1) is None
        assert (ChunkKind.STATE, 1) not in chunks
    path.write_bytes(b"something else")
    with ChunkFile(path) as chunks:
        assert len(chunks) == 0

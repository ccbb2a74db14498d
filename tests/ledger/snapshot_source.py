"""A ledger with a snapshot of its head, given part by part as a peer would."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ledger.chain import Chain
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.pacing import Pacer
from ledger.settings import StoreSettings
from ledger.snapshot import Manifest, VerifiedManifest, decode_manifest, verify_manifest
from ledger.snapshot_export import export_snapshot
from ledger.snapshot_install import install_snapshot
from ledger.snapshot_shelf import OfferedSnapshot, SnapshotShelf
from tests.ledger.conftest import Kit

WINDOW_MS = 10_000


@dataclass
class Source:
    """A ledger of some blocks and a snapshot of its head, given part by part as a peer would."""

    kit: Kit
    chain: Chain
    shelf: SnapshotShelf
    offered: OfferedSnapshot = field(init=False)
    manifest: Manifest = field(init=False)
    verified: VerifiedManifest = field(init=False)

    def __post_init__(self) -> None:
        height = self.chain.head.height
        pacer = Pacer(rest_seconds=0)
        rows = self.chain.archive.rows
        export_snapshot(rows, self.kit.genesis, height=height, shelf=self.shelf.directory, pacer=pacer)
        offered = self.shelf.open_newest()
        assert offered is not None
        self.offered = offered
        self.manifest = decode_manifest(offered.manifest)
        self.verified = verify_manifest(self.manifest, self.kit.genesis)

    def list_names(self) -> list[tuple[ChunkKind, int]]:
        verified = self.verified
        return [
            *((ChunkKind.STATE, number) for number in verified.list_subtrees()),
            *((ChunkKind.HISTORY, number) for number in range(verified.history_chunks)),
            *((ChunkKind.BLOCK, height) for height in range(verified.base, verified.height + 1)),
        ]

    def read(self, kind: ChunkKind, number: int) -> bytes:
        chunk = self.offered.read(kind, number, self.chain.archive)
        assert chunk is not None
        return chunk

    def copy(self, path: Path) -> ChunkFile:
        chunks = ChunkFile(path)
        for kind, number in self.list_names():
            chunks.append(kind, number, self.read(kind, number))
        return chunks

    def install(self, name: str, chunks: ChunkFile) -> Chain:
        install_snapshot(
            self.verified,
            chunks,
            ledger_directory=self.kit.directory / name,
            contract_set=self.kit.contract_set,
            settings=StoreSettings(),
            pacer=Pacer(rest_seconds=0),
        )
        return self.kit.open(name)


def make_source(kit: Kit, shelf: Path, *, blocks: int = 30, notes: int = 5) -> Source:
    """Blocks a second apart, with some notes in each."""
    chain = kit.open("source")
    for number in range(blocks):
        expires_ms = chain.head.header.time_ms + WINDOW_MS
        kit.commit(
            chain,
            *(kit.note(b"%d-%d" % (number, index), "x", expires_ms=expires_ms) for index in range(notes)),
        )
    return Source(kit, chain, SnapshotShelf(shelf))

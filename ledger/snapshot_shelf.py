"""The finished snapshots of one node, in `data/snapshots`: a folder each, named by its height.

A part of a snapshot is read from its file, or from the ledger where that never changes: leaf hashes, and the
blocks of the window as long as they are held.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ledger.archive import Archive
from ledger.block import decode_header
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.snapshot import HISTORY_CHUNK_LEAVES, decode_manifest, read_history_chunk, read_window_block
from ledger.snapshot_export import CHUNKS_FILE, MANIFEST_FILE
from ledger.snapshot_holds import SnapshotHolds


@dataclass(frozen=True, slots=True)
class OfferedSnapshot:
    """An open snapshot, as other nodes are given it."""

    height: int
    manifest: bytes
    """Encoded."""
    base: int
    """The lowest height of its window."""
    history_size: int
    chunks: ChunkFile

    def read(self, kind: ChunkKind, number: int, archive: Archive) -> bytes | None:
        """One part, None when there is none or it is not held any more. Raises OSError, StoreFailed."""
        if archive.get_header_bytes(self.height) is None:
            return None  # The ledger was replaced, and has not come so far again.
        match kind:
            case ChunkKind.STATE:
                return self.chunks.read(kind, number)
            case ChunkKind.HISTORY:
                if number * HISTORY_CHUNK_LEAVES >= self.history_size:
                    return None
                return read_history_chunk(archive.rows, number, self.history_size)
            case ChunkKind.BLOCK:
                return read_window_block(archive, number) if self.base <= number <= self.height else None


class SnapshotShelf:
    """What this node offers to others; used from one thread, while another may add and remove snapshots."""

    def __init__(self, directory: Path) -> None:
        """`directory` need not exist yet."""
        self.directory = directory
        self.holds = SnapshotHolds()
        self._opened: dict[int, OfferedSnapshot] = {}

    def open_newest(self) -> OfferedSnapshot | None:
        """The snapshot of the greatest height. Raises OSError, SnapshotRefused for a damaged manifest."""
        heights = list_heights(self.directory)
        return self.open(heights[-1]) if heights else None

    def open(self, height: int) -> OfferedSnapshot | None:
        """The snapshot of this height, kept open while it is there. Raises OSError, SnapshotRefused."""
        folder = self.directory / str(height)
        opened = self._opened.get(height)
        if not (folder / MANIFEST_FILE).is_file():
            if opened is not None:
                self._opened.pop(height).chunks.close()
            return None
        return opened or self._open(height, folder)

    def close(self) -> None:
        for opened in self._opened.values():
            opened.chunks.close()
        self._opened.clear()

    def _open(self, height: int, folder: Path) -> OfferedSnapshot:
        encoded = (folder / MANIFEST_FILE).read_bytes()
        manifest = decode_manifest(encoded)
        opened = self._opened[height] = OfferedSnapshot(
            height=height,
            manifest=encoded,
            base=decode_header(manifest.base[0].header).height if manifest.base else 1,
            history_size=decode_header(manifest.head.header).history_size,
            chunks=ChunkFile(folder / CHUNKS_FILE),
        )
        for gone in self._opened.keys() - set(list_heights(self.directory)):
            self._opened.pop(gone).chunks.close()
        return opened


def list_heights(directory: Path) -> list[int]:
    """Heights of the finished snapshots in a folder that need not exist, ascending."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def remove_oldest(directory: Path, kept_max: int, held: Collection[int] = ()) -> None:
    """Delete all but the newest `kept_max` snapshots, one at least, and those of the `held` heights.

    Raises OSError.
    """
    for height in list_heights(directory)[:-kept_max]:
        if height not in held:
            shutil.rmtree(directory / str(height))

"""The parts of one snapshot in one file, appended in any order and read by kind and number.

A record is kind (1 byte), number (8), length (4) and CRC-32 (4), then the part itself. Opening the file reads
the record heads only. A record that a crash cut off at the end is dropped; one whose bytes are not those that
were written is as if it were not there. What a part says is checked by whoever appends it, not here.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final
from zlib import crc32

CHUNK_BYTES_MAX: Final = 67_108_864
"""No part is longer: a subtree of state, the leaf hashes of some receipts, or a block with its receipts."""

MAGIC: Final = b"chartchain:snapshot-chunks:1\n"
_HEAD: Final = struct.Struct(">BQII")


class ChunkKind(IntEnum):
    """What a part of a snapshot is; its number says which."""

    STATE = 1
    """The rows of one subtree of the state tree, by the subtree's number."""
    HISTORY = 2
    """Leaf hashes of consecutive receipts, by the number of the run."""
    BLOCK = 3
    """A block of the recent window with its receipts, by its height."""


ChunkName = tuple[ChunkKind, int]


class ChunkFile:
    """An open file of parts; used from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or begin the file. Raises OSError."""
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._places: dict[ChunkName, tuple[int, int, int]] = {}
        self._end = self._read_heads()

    def __enter__(self) -> ChunkFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: ChunkName) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def append(self, kind: ChunkKind, number: int, chunk: bytes) -> None:
        """Add a part; it takes the place of an earlier one of its name. Raises OSError."""
        if len(chunk) > CHUNK_BYTES_MAX:
            raise ValueError(f"chunk of {len(chunk)} bytes, at most {CHUNK_BYTES_MAX} allowed")
        checksum = crc32(chunk)
        self._file.seek(self._end)
        self._file.write(_HEAD.pack(kind, number, len(chunk), checksum))
        self._file.write(chunk)
        self._file.flush()
        self._places[kind, number] = self._end + _HEAD.size, len(chunk), checksum
        self._end += _HEAD.size + len(chunk)

    def read(self, kind: ChunkKind, number: int) -> bytes | None:
        """The part, or None when it is absent or was damaged. Raises OSError."""
        place = self._places.get((kind, number))
        if place is None:
            return None
        start, length, checksum = place
        self._file.seek(start)
        chunk = self._file.read(length)
        if len(chunk) != length or crc32(chunk) != checksum:
            del self._places[kind, number]
            return None
        return chunk

    def get_length(self, kind: ChunkKind, number: int) -> int | None:
        """Bytes of the part, told without reading it."""
        place = self._places.get((kind, number))
        return None if place is None else place[1]

    def sync(self) -> None:
        """Return once everything appended survives a power cut. Raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _read_heads(self) -> int:
        """Note where each part lies; where the next one goes. A torn tail is cut off."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        if self._file.read(len(MAGIC)) != MAGIC:
            self._file.truncate(0)
            self._file.seek(0)
            self._file.write(MAGIC)
            return len(MAGIC)
        end = len(MAGIC)
        kinds = set(ChunkKind)
        while len(head := self._file.read(_HEAD.size)) == _HEAD.size:
            kind, number, length, checksum = _HEAD.unpack(head)
            if kind not in kinds or end + _HEAD.size + length > size:
                break
            self._places[ChunkKind(kind), number] = end + _HEAD.size, length, checksum
            end += _HEAD.size + length
            self._file.seek(end)
        self._file.truncate(end)
        return end

"""A simulated journal as the daemon writes it, to be torn or damaged, and as the daemon reads it then."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from consensus.journal import Entry, Journal, encode_segment
from consensus.journal_entries import encode_entry
from consensus.journal_records import JournalRecord

Frame: TypeAlias = tuple[tuple[JournalRecord, tuple[bytes, ...]], ...]
"""What one append wrote: records, each with the bodies that it vouches for."""

_MARK: Final = b"simulate"
_SECTOR_BYTES: Final = 512


def tear(random: Random, synced: Sequence[Frame], unsynced: Frame) -> bytes:
    """The file after a power cut within the write of `unsynced`: too short, or with a sector missing."""
    whole = len(_encode(synced))
    data = _encode((*synced, unsynced))
    cut = random.randrange(whole + 1, len(data))
    if random.random() < 0.5:
        return data[:cut]
    hole = data[cut : cut + _SECTOR_BYTES]
    return data[:cut] + bytes(len(hole)) + data[cut + len(hole) :]


def flip_bit(random: Random, synced: Sequence[Frame]) -> bytes:
    """The file with one bit altered, in half of the cases in its last frame."""
    data = bytearray(_encode(synced))
    first = len(_encode(synced[:-1])) if synced and random.random() < 0.5 else 0
    data[random.randrange(first, len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def read(data: bytes) -> tuple[Entry, ...]:
    """What a starting node finds in the file. Raises JournalCorrupt when it must not start with it."""
    with tempfile.TemporaryDirectory(prefix="chartchain-simulation-") as name:
        Path(name, f"{1:012d}.segment").write_bytes(data)
        journal = Journal.open(Path(name))
        journal.close()
        return journal.entries


def _encode(frames: Sequence[Frame]) -> bytes:
    entries = [[encode_entry(record, bodies) for record, bodies in frame] for frame in frames]
    return encode_segment(entries, _MARK)

"""The journal: what a replica has promised, on disk before the promise leaves.

A directory with one segment file. A segment is a header and frames; a frame is what one `append` wrote and
synced, so a crash can tear the last frame only. Invariants:

- `append` returns when its entries are on disk (one fdatasync), or raises, and then the journal is dead:
  after a failed sync nobody knows what the disk holds (protocol rule P7).
- A torn last frame is dropped at opening. A bad frame with a good one behind it is no torn write; the node
  does not start, since it may have promised what it no longer knows.
- A journal that was missing says so (`is_missing`) at every opening until `confirm` is called, since whoever
  lost it cannot know what was signed (protocol rule P6). A new node's journal is made by `create`.

Frames begin with the segment's random mark. A client who puts a well-formed frame into a transaction can
therefore not make a torn tail look like damage.

The journal knows heights, to forget those that are durable; what the entries say it does not know.

Errors:
    JournalFailed        the disk's: the node stops
      JournalFull        the entries of unfinished heights outgrew their bound
    JournalCorrupt       the disk's: the node does not start
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

FORMAT_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 268_435_456

_MAGIC: Final = b"chartjnl"
_MARK_BYTES: Final = 8
_HEADER: Final = struct.Struct(">8sHB8sI")
"""Magic, format version, 1 when the journal was missing, the segment's mark, CRC-32 of what precedes."""
_FRAME: Final = struct.Struct(">8sII")
"""The segment's mark, bytes of the payload, CRC-32 over mark, length and payload."""
_SUFFIX: Final = ".segment"


class JournalFailed(Exception):
    """Writing or reading the journal failed: the node must stop and never use this handle again."""


class JournalFull(JournalFailed):
    """Heights that never finish have filled the journal."""


class JournalCorrupt(Exception):
    """The journal holds bad bytes that no torn write explains: the node must not start with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Bounds of the journal's files."""

    segment_bytes_max: int = 33_554_432
    """A segment longer than this is rewritten, without what is durable, at the next `truncate`."""
    journal_bytes_max: int = 1_073_741_824
    """Beyond this many bytes of unfinished heights the node stops."""


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One thing to remember, opaque to the journal."""

    height: int
    """Forgotten once this height is durable, unless it is a standing entry."""
    standing: int
    """0, or a number that tells standing entries apart: the last of each outlives every height."""
    data: bytes


_entries_decoder = msgspec.msgpack.Decoder(tuple[Entry, ...])
_entries_encoder = msgspec.msgpack.Encoder()


@dataclass(slots=True)
class _Frame:
    """Where a frame lies that may still be needed, and what it is needed for."""

    offset: int
    size: int
    height_max: int
    standing: frozenset[int]


class Journal:
    """An open journal; see the module's docstring. All calls from one thread at a time."""

    def __init__(self, directory: Path, settings: JournalSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._number = 0
        self._descriptor = -1
        self._mark = b""
        self._size = 0
        self._frames: list[_Frame] = []
        self._failure: str | None = None
        self.is_missing = False
        """Whether votes may have been signed that this journal does not hold."""
        self.entries: tuple[Entry, ...] = ()
        """What the journal held when it was opened, in the order of writing."""

    @classmethod
    def create(cls, directory: Path, settings: JournalSettings | None = None) -> None:
        """Make the empty journal of a node that has never voted. Raises JournalFailed when there is one."""
        journal = cls(directory, settings or JournalSettings())
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise JournalFailed(f"{directory}: not empty, an empty folder expected; is it in use?")
            journal._start_segment(())
        except OSError as error:
            raise JournalFailed(f"{directory}: cannot be created: {error.strerror}") from error
        journal.close()

    @classmethod
    def open(cls, directory: Path, settings: JournalSettings | None = None) -> Journal:
        """Read and check the journal, drop a torn tail, and make ready to append.

        Raises JournalCorrupt when bad bytes are followed by good ones, JournalFailed on disk errors.
        """
        journal = cls(directory, settings or JournalSettings())
        try:
            directory.mkdir(parents=True, exist_ok=True)
            segments = sorted(directory.glob(f"*{_SUFFIX}"))
            if segments:
                journal._load(segments[-1])
            else:
                journal.is_missing = True
                journal._start_segment(())
            for leftover in (*segments[:-1], *directory.glob(f"*{_SUFFIX}.new")):
                leftover.unlink()
        except OSError as error:
            journal.close()
            raise JournalFailed(f"{directory}: cannot be opened: {error.strerror}") from error
        except JournalCorrupt:
            journal.close()
            raise
        return journal

    def append(self, entries: Sequence[Entry]) -> None:
        """Write the entries as one frame and sync it; whole or not at all after a crash.

        Raises JournalFailed, and from then on always.
        """
        self._check_alive()
        frame = _encode_frame(self._mark, entries)
        if self._size + len(frame) > self._settings.journal_bytes_max:
            self._fail(
                f"{self._size} bytes of unfinished heights found, at most "
                f"{self._settings.journal_bytes_max} allowed: no height finishes; see why, then start again",
                JournalFull,
            )
        try:
            _write_all(self._descriptor, frame)
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._fail(f"cannot be written: {error.strerror}; free or replace the disk, then start again")
        self._frames.append(_describe(entries, self._size, len(frame)))
        self._size += len(frame)

    def truncate(self, height: int) -> None:
        """Forget what is of `height` and below, which is durable in the ledger; cheap but now and then.

        Raises JournalFailed.
        """
        self._check_alive()
        self._frames = _select_needed(self._frames, height)
        if self._size <= self._settings.segment_bytes_max:
            return
        try:
            self._start_segment(tuple(self._read_needed(height)))
        except OSError as error:
            self._fail(f"cannot be rewritten: {error.strerror}; free or replace the disk, then start again")

    def confirm(self) -> None:
        """The replica has caught up with all it may have signed: the journal counts as whole again.

        Raises JournalFailed.
        """
        self._check_alive()
        if not self.is_missing:
            return
        self.is_missing = False
        try:
            self._start_segment(tuple(self._read_needed(-1)))
        except OSError as error:
            self._fail(f"cannot be rewritten: {error.strerror}; free or replace the disk, then start again")

    def close(self) -> None:
        """Close the file; nothing is pending, since every append is synced."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self._failure = self._failure or "closed"

    @property
    def size_bytes(self) -> int:
        return self._size

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise JournalFailed(f"{self._directory}: not usable any more: {self._failure}")

    def _fail(self, reason: str, kind: type[JournalFailed] = JournalFailed) -> None:
        self._failure = reason
        raise kind(f"{self._directory}: {reason}")

    def _load(self, path: Path) -> None:
        self._number = int(path.name.removesuffix(_SUFFIX))
        self._descriptor = os.open(path, os.O_RDWR)
        data = path.read_bytes()
        self.is_missing, self._mark = _decode_header(path, data)
        entries: list[Entry] = []
        offset = _HEADER.size
        while (payload := _decode_frame(data, offset, self._mark)) is not None:
            decoded = _decode_entries(path, payload)
            size = _FRAME.size + len(payload)
            self._frames.append(_describe(decoded, offset, size))
            entries += decoded
            offset += size
        if offset < len(data):
            _check_torn(path, data, offset, self._mark)
            os.ftruncate(self._descriptor, offset)
            os.fsync(self._descriptor)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._size = offset
        self.entries = tuple(entries)

    def _read_needed(self, height: int) -> Iterator[Entry]:
        """The entries that outlive `height`, oldest first."""
        last: dict[int, Entry] = {}
        kept: list[Entry] = []
        for frame in self._frames:
            data = os.pread(self._descriptor, frame.size, frame.offset)
            for entry in _entries_decoder.decode(memoryview(data)[_FRAME.size :]):
                kept.append(entry)
                if entry.standing:
                    last[entry.standing] = entry
        for entry in kept:
            if entry.height > height or last.get(entry.standing) is entry:
                yield entry

    def _start_segment(self, entries: Sequence[Entry]) -> None:
        """Put a new segment with these entries in the place of the old one; atomic."""
        number, mark = self._number + 1, secrets.token_bytes(_MARK_BYTES)
        data = _encode_header(mark, is_missing=self.is_missing)
        frames = []
        if entries:
            frame = _encode_frame(mark, entries)
            frames.append(_describe(entries, len(data), len(frame)))
            data += frame
        old, path = self._compute_path(self._number), self._compute_path(number)
        new = path.with_name(path.name + ".new")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
            new.rename(path)
            _sync_directory(self._directory)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._number, self._mark = descriptor, number, mark
        self._size, self._frames = len(data), frames
        old.unlink(missing_ok=True)

    def _compute_path(self, number: int) -> Path:
        return self._directory / f"{number:012d}{_SUFFIX}"


def _select_needed(frames: list[_Frame], height: int) -> list[_Frame]:
    """The frames with an entry above `height` or with the last standing entry of its number."""
    needed: list[_Frame] = []
    seen: frozenset[int] = frozenset()
    for frame in reversed(frames):
        if frame.height_max > height or frame.standing - seen:
            needed.append(frame)
            seen |= frame.standing
    needed.reverse()
    return needed


def _describe(entries: Sequence[Entry], offset: int, size: int) -> _Frame:
    return _Frame(
        offset=offset,
        size=size,
        height_max=max(entry.height for entry in entries),
        standing=frozenset(entry.standing for entry in entries if entry.standing),
    )


def encode_segment(frames: Iterable[Sequence[Entry]], mark: bytes) -> bytes:
    """A segment file with one frame for each of `frames`; its mark is 8 bytes."""
    header = _encode_header(mark, is_missing=False)
    return b"".join((header, *(_encode_frame(mark, entries) for entries in frames)))


def _encode_header(mark: bytes, *, is_missing: bool) -> bytes:
    start = struct.pack(">8sHB8s", _MAGIC, FORMAT_VERSION, is_missing, mark)
    return start + zlib.crc32(start).to_bytes(4, "big")


def _decode_header(path: Path, data: bytes) -> tuple[bool, bytes]:
    """Whether the journal was missing, and the segment's mark."""
    if len(data) < _HEADER.size:
        raise JournalCorrupt(f"{path}: {len(data)} bytes found, a header of {_HEADER.size} expected")
    magic, version, is_missing, mark, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC or crc != zlib.crc32(data[: _HEADER.size - 4]):
        raise JournalCorrupt(f"{path}: header damaged; {_ADVICE}")
    if version != FORMAT_VERSION:
        raise JournalCorrupt(f"{path}: format {version} found, {FORMAT_VERSION} expected: update the node")
    return bool(is_missing), mark


def _encode_frame(mark: bytes, entries: Sequence[Entry]) -> bytes:
    payload = _entries_encoder.encode(entries)
    if len(payload) > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(payload)} bytes, at most {FRAME_BYTES_MAX} expected")
    length = len(payload).to_bytes(4, "big")
    crc = zlib.crc32(payload, zlib.crc32(mark + length))
    return b"".join((mark, length, crc.to_bytes(4, "big"), payload))


def _decode_frame(data: bytes, offset: int, mark: bytes) -> memoryview | None:
    """The payload of the frame at `offset`, or None where no good frame begins."""
    if len(data) - offset < _FRAME.size:
        return None
    found, length, crc = _FRAME.unpack_from(data, offset)
    start = offset + _FRAME.size
    if found != mark or length == 0 or length > len(data) - start:
        return None
    payload = memoryview(data)[start : start + length]
    if crc != zlib.crc32(payload, zlib.crc32(data[offset : offset + _MARK_BYTES + 4])):
        return None
    return payload


def _decode_entries(path: Path, payload: memoryview) -> tuple[Entry, ...]:
    """A good frame's entries, one at least: whoever wrote the frame wrote it so."""
    try:
        entries = _entries_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"{path}: a frame of no entries found: {error}: update the node") from error
    if not entries:
        raise JournalCorrupt(f"{path}: an empty frame found, entries expected: update the node")
    return entries


def _check_torn(path: Path, data: bytes, offset: int, mark: bytes) -> None:
    """Return when nothing good follows the bad bytes at `offset`. Raises JournalCorrupt otherwise."""
    candidate = data.find(mark, offset + 1)
    while candidate >= 0:
        if _decode_frame(data, candidate, mark) is not None:
            raise JournalCorrupt(
                f"{path}: damaged at byte {offset}, yet a good frame follows at byte {candidate}; {_ADVICE}"
            )
        candidate = data.find(mark, candidate + 1)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_ADVICE: Final = (
    "the disk has altered it: check the disk, then move the journal folder away, and the node "
    "starts silent until the others have passed all that it may have signed"
)

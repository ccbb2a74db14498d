"""One node's disk: what survives a crash, and what a crash may do to what was not yet synced.

A journal append is one frame: after a crash it is there whole or, torn, not at all (`consensus.journal`
proves that on real files). A block is one synced write batch: likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from consensus.certificates import Certificate
from consensus.journal_records import JournalRecord, decode_record, encode_record, select_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A final block as it lies on disk."""

    height: int
    digest: bytes
    header: bytes
    hashes: tuple[bytes, ...]
    bodies: tuple[bytes, ...]
    certificate: Certificate | None
    """None for the genesis block only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCopy:
    """What a disk held at one time."""

    blocks: tuple[StoredBlock, ...]
    journal: tuple[tuple[bytes, JournalRecord], ...]
    bodies: tuple[tuple[bytes, bytes], ...]


class Disk:
    """The journal and the blocks of one node."""

    def __init__(self, genesis: StoredBlock, name: str = "") -> None:
        self.name = name
        """Tells it apart from the other disks of a run."""
        self.blocks: list[StoredBlock] = [genesis]
        """By height."""
        self.journal_missing = False
        """Whether the journal was lost and the replica has not yet caught up with what it may have signed."""
        self._journal: dict[bytes, JournalRecord] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._unsynced: list[tuple[bytes, JournalRecord]] = []

    def append(self, records: Sequence[JournalRecord], bodies: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Write records, and bodies by their hashes, as one frame; nothing is certain before `sync`.

        What was written of the records.
        """
        self._unsynced = [(encode_record(record), record) for record in records]
        self._bodies.update(bodies)
        return b"".join(data for data, _ in self._unsynced)

    def sync(self) -> None:
        """The frame is on disk."""
        # A record written again counts as the newest one: order decides what a truncation keeps.
        for data, record in self._unsynced:
            self._journal.pop(data, None)
            self._journal[data] = record
        self._unsynced = []

    def crash(self, random: Random) -> str | None:
        """Lose what was not synced, or not: nobody knows. What became of it, or None if there was none."""
        if not self._unsynced:
            return None
        if random.random() < 0.5:
            self.sync()
            return "unsynced_kept"
        self._unsynced = []
        return "unsynced_lost"

    def truncate(self, height: int) -> None:
        """Forget what is not needed any more once `height` is durable."""
        needed = {id(record) for record in select_needed(tuple(self._journal.values()), height)}
        self._journal = {data: record for data, record in self._journal.items() if id(record) in needed}
        if len(self._bodies) > 200:
            self._bodies.clear()

    def lose_journal(self) -> None:
        """The journal's folder is gone; the blocks are not."""
        self._journal.clear()
        self._bodies.clear()
        self.journal_missing = True

    def wipe(self) -> None:
        """Everything but the node's key is gone."""
        del self.blocks[1:]
        self.lose_journal()

    def copy(self) -> DiskCopy:
        """A backup as careless operators make it: journal and all."""
        return DiskCopy(
            blocks=tuple(self.blocks),
            journal=tuple(self._journal.items()),
            bodies=tuple(self._bodies.items()),
        )

    def restore(self, copy: DiskCopy) -> None:
        """Put an old copy back; nothing on it says that it is old."""
        self.blocks[:] = copy.blocks
        self._journal = dict(copy.journal)
        self._bodies = dict(copy.bodies)
        self._unsynced = []

    def holds(self, record: JournalRecord) -> bool:
        """Whether the record is synced."""
        return encode_record(record) in self._journal

    def get_records(self) -> tuple[JournalRecord, ...]:
        """The synced records, not decoded anew."""
        return tuple(self._journal.values())

    def read_journal(self) -> tuple[JournalRecord, ...]:
        """What a starting replica finds, decoded from its bytes, oldest first."""
        return tuple(decode_record(data) for data in self._journal)

    def get_body(self, signed_hash: bytes) -> bytes | None:
        """A journaled body (rule P1)."""
        return self._bodies.get(signed_hash)

"""One node's disk: what survives a crash, and what a crash may do to what was not yet synced.

A journal append is one frame: after a crash it is there whole or, torn, not at all. A block is one synced
write batch: likewise. What is torn or damaged is put into the form of the daemon's journal file and read by
the daemon's own code. A damaged block is found by its digest, as the store finds it by its checksum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from consensus.certificates import Certificate
from consensus.journal import JournalCorrupt
from consensus.journal_entries import decode_entries
from consensus.journal_records import (
    JournalRecord,
    ProposalRecord,
    decode_record,
    encode_record,
    select_needed,
)
from crypto import tags
from crypto.hashing import compute_digest
from simulation import journal_file

FATES: Final = ("unsynced_kept", "unsynced_lost", "unsynced_torn")
"""What may become of an append that was not synced when the power went."""


class StoredBlock(Struct, frozen=True, kw_only=True):
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
    journal: tuple[JournalRecord, ...]
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
        self.failure: str | None = None
        """`eio` or `enospc` while nothing can be written (rule P7)."""
        self._journal: dict[JournalRecord, None] = {}
        """An ordered set, oldest first; encoded only when somebody reads or damages it."""
        self._bodies: dict[bytes, bytes] = {}
        self._unsynced: Sequence[JournalRecord] = ()
        self._unsynced_bodies: dict[bytes, bytes] = {}

    def append(self, records: Sequence[JournalRecord], bodies: Sequence[tuple[bytes, bytes]]) -> None:
        """Write records, and bodies by their hashes, as one frame; nothing is certain before `sync`."""
        self._unsynced = records
        self._unsynced_bodies = dict(bodies)

    def sync(self) -> None:
        """The frame is on disk."""
        # A record written again counts as the newest one: order decides what a truncation keeps.
        for record in self._unsynced:
            self._journal.pop(record, None)
            self._journal[record] = None
        self._bodies.update(self._unsynced_bodies)
        self._forget_unsynced()

    def crash(self, random: Random) -> str | None:
        """Lose what was not synced, or not: nobody knows. One of FATES, or None if there was none."""
        if not self._unsynced:
            return None
        fate = random.choice(FATES)
        if fate == "unsynced_kept":
            self.sync()
        elif fate == "unsynced_torn":
            bodies = self._bodies | self._unsynced_bodies
            torn = tuple((record, _select_bodies(record, bodies)) for record in self._unsynced)
            self._read(journal_file.tear(random, self._compute_frames(), torn))
        self._forget_unsynced()
        return fate

    def truncate(self, height: int) -> None:
        """Forget what is not needed any more once `height` is durable."""
        needed = select_needed(tuple(self._journal), height)
        self._journal = dict.fromkeys(needed)
        hashes = [
            item
            for record in needed
            if isinstance(record, ProposalRecord)
            for item in record.transaction_hashes
        ]
        self._bodies = {item: self._bodies[item] for item in hashes if item in self._bodies}

    def flip_journal(self, random: Random) -> str:
        """One bit of the journal is altered: a last frame that is bad is taken for torn; any other stops the
        node, and its operator moves the journal away."""
        try:
            self._read(journal_file.flip_bit(random, self._compute_frames()))
        except JournalCorrupt:
            self.lose_journal()
            return "flip_stopped"
        return "flip_taken_for_torn"

    def flip_block(self, random: Random) -> None:
        """One bit of a block is altered."""
        if len(self.blocks) == 1:
            return
        index = random.randrange(1, len(self.blocks))
        header = bytearray(self.blocks[index].header)
        header[random.randrange(len(header))] ^= 1 << random.randrange(8)
        self.blocks[index] = replace(self.blocks[index], header=bytes(header))

    def drop_damaged(self) -> bool:
        """Whether a block is not what was written; the ledger is then given up, to be fetched anew."""
        is_damaged = any(compute_digest(tags.HEADER, block.header) != block.digest for block in self.blocks)
        if is_damaged:
            del self.blocks[1:]
        return is_damaged

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
            journal=tuple(self._journal),
            bodies=tuple(self._bodies.items()),
        )

    def restore(self, copy: DiskCopy) -> None:
        """Put an old copy back; nothing on it says that it is old."""
        self.blocks[:] = copy.blocks
        self._journal = dict.fromkeys(copy.journal)
        self._bodies = dict(copy.bodies)
        self._forget_unsynced()

    def holds(self, record: JournalRecord) -> bool:
        """Whether the record is synced."""
        return record in self._journal

    def get_records(self) -> tuple[JournalRecord, ...]:
        """The synced records, oldest first, not decoded anew."""
        return tuple(self._journal)

    def iterate_newest(self) -> Iterator[JournalRecord]:
        """The synced records, newest first."""
        return reversed(self._journal)

    def read_journal(self) -> tuple[JournalRecord, ...]:
        """What a starting replica finds, decoded from its bytes, oldest first."""
        return tuple(decode_record(encode_record(record)) for record in self._journal)

    def get_body(self, signed_hash: bytes) -> bytes | None:
        """A journaled body (rule P1)."""
        return self._bodies.get(signed_hash)

    def _forget_unsynced(self) -> None:
        self._unsynced = ()
        self._unsynced_bodies = {}

    def _compute_frames(self) -> tuple[journal_file.Frame, ...]:
        """The synced journal with each record as a frame of its own."""
        return tuple(((record, _select_bodies(record, self._bodies)),) for record in self._journal)

    def _read(self, data: bytes) -> None:
        """Take the journal for what the daemon finds in this file. Raises JournalCorrupt."""
        content = decode_entries(journal_file.read(data))
        self._journal = dict.fromkeys(content.records)
        self._bodies = {
            item: body
            for proposal, bodies in content.proposals
            for item, body in zip(proposal.transaction_hashes, bodies, strict=True)
        }


def _select_bodies(record: JournalRecord, bodies: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """Of a proposal, in its order; of another record none."""
    hashes = record.transaction_hashes if isinstance(record, ProposalRecord) else ()
    return tuple(bodies[item] for item in hashes if item in bodies)

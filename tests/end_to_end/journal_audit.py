"""Reads what replicas have signed, from all journals, and finds whoever contradicted itself.

One signer has one digest for each epoch, height, view and phase, and one VIEW-CHANGE for each epoch and view.
Statements are gathered over all nodes and restarts: `gather` may be called as often as there is something new
to read, before a journal is truncated or wiped. Journals hold others' votes too, inside certificates, so what
a wiped node had signed is found with those who relied on it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from consensus.certificates import Certificate, Phase, PreparedCertificate, compute_vote_bytes
from consensus.journal import Journal
from consensus.journal_entries import decode_entries
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    PreparedRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import ViewChange, Vote, compute_signed_bytes
from consensus.replica_set import ReplicaSet
from crypto import tags
from crypto.hashing import compute_digest
from crypto.signatures import verify_signature

Slot: TypeAlias = tuple[int, int, int, str, int]
"""Epoch, height (0 for a VIEW-CHANGE), view, what was signed, signer."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two statements of one signer for one slot."""

    slot: Slot
    first: bytes
    second: bytes


@dataclass(slots=True)
class JournalAudit:
    """Everything that was found signed on one ledger, each signature verified."""

    chain_id: bytes
    replica_set: ReplicaSet
    contradictions: list[Contradiction] = field(default_factory=list)
    _signed: dict[Slot, bytes] = field(default_factory=dict)

    @property
    def statement_count(self) -> int:
        return len(self._signed)

    def count_of(self, replica: int) -> int:
        """How many statements of one signer were found."""
        return sum(slot[4] == replica for slot in self._signed)

    def gather(self, directory: Path) -> None:
        """Read one journal, from a copy: opening one drops a torn tail, which is the node's own business."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "journal"
            shutil.copytree(directory, copy)
            journal = Journal.open(copy)
            entries = journal.entries
            journal.close()
        for record in decode_entries(entries).records:
            for vote in _list_votes(record):
                self.add_vote(vote)
            for view_change in _list_view_changes(record):
                self.add_view_change(view_change)

    def add_certificate(self, certificate: Certificate) -> None:
        for vote in _list_commits(certificate):
            self.add_vote(vote)

    def add_vote(self, vote: Vote) -> None:
        """Raises InvalidSignature: a journal that holds what nobody signed is itself a finding."""
        signed = compute_vote_bytes(
            self.chain_id, vote.epoch, vote.height, vote.view, vote.phase, vote.digest
        )
        self._verify(vote.replica, tags.VOTE, signed, vote.signature)
        slot = (vote.epoch, vote.height, vote.view, Phase(vote.phase).name, vote.replica)
        self._add(slot, vote.digest)

    def add_view_change(self, view_change: ViewChange) -> None:
        signed = compute_signed_bytes(self.chain_id, view_change)
        self._verify(view_change.replica, tags.VIEW_CHANGE, signed, view_change.signature)
        slot = (view_change.epoch, 0, view_change.view, "VIEW_CHANGE", view_change.replica)
        self._add(slot, compute_digest(signed))

    def check(self) -> None:
        """Raises AssertionError when anybody contradicted itself."""
        assert self._signed, "no journal was read"
        assert not self.contradictions, self.contradictions

    def _add(self, slot: Slot, digest: bytes) -> None:
        known = self._signed.setdefault(slot, digest)
        if known != digest:
            self.contradictions.append(Contradiction(slot, known, digest))

    def _verify(self, replica: int, tag: bytes, message: bytes, signature: bytes) -> None:
        public_key = self.replica_set.get_public_key(replica)
        assert public_key is not None, f"replica {replica} is not in the replica set"
        verify_signature(public_key, tag, message, signature)


def _list_votes(record: JournalRecord) -> Iterator[Vote]:
    """The votes in a record, those inside certificates too."""
    match record:
        case VoteRecord(vote=vote):
            yield vote
        case PreparedRecord(certificate=certificate):
            yield from _list_prepares(certificate)
        case _:
            for view_change in _list_view_changes(record):
                if view_change.base is not None:
                    yield from _list_commits(view_change.base)
                if view_change.prepared is not None:
                    yield from _list_prepares(view_change.prepared)


def _list_view_changes(record: JournalRecord) -> tuple[ViewChange, ...]:
    match record:
        case ViewChangeRecord(view_change=view_change):
            return (view_change,)
        case NewViewRecord(new_view=new_view):
            return new_view.view_changes
        case _:
            return ()


def _list_commits(item: Certificate) -> Iterator[Vote]:
    for signed in item.signatures:
        yield Vote(
            item.epoch, item.height, item.view, Phase.COMMIT, item.digest, signed.replica, signed.signature
        )


def _list_prepares(item: PreparedCertificate) -> Iterator[Vote]:
    for signed in item.signatures:
        phase = Phase.PRE_PREPARE if signed.replica == item.primary else Phase.PREPARE
        yield Vote(item.epoch, item.height, item.view, phase, item.digest, signed.replica, signed.signature)

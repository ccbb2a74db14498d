"""Reads what replicas have signed, from all journals, and finds whoever contradicted itself.

One signer has one digest for each epoch, height, view and phase, one VIEW-CHANGE and one NEW-VIEW for each
epoch and view, and no vote below a view that it asked for at a lower height. A statement counts by the
replica set of its epoch, so by the key that its signer had then. The ledgers tell which sets there were
(`follow`), by vote, rotation or recovery; their changes are verified from the genesis on.

Statements are gathered over all nodes and restarts: `gather` may be called as often as there is something new
to read, before a journal is truncated or wiped. Journals hold others' votes too, inside certificates, so what
a wiped node had signed is found with those who relied on it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
from consensus.messages import NewView, ViewChange, Vote, compute_signed_bytes
from consensus.replica_set import ReplicaSet
from crypto import tags
from crypto.hashing import compute_digest
from crypto.signatures import verify_signature
from ledger.epochs import EpochChange, follow_epochs
from ledger.genesis import Genesis


class Slot(NamedTuple):
    """What a signer fills once."""

    epoch: int
    height: int
    """Of a vote; of a VIEW-CHANGE and a NEW-VIEW 0."""
    view: int
    kind: str
    """The vote's phase, VIEW_CHANGE or NEW_VIEW."""
    signer: int


class Request(NamedTuple):
    """A VIEW-CHANGE: its signer votes in no lower view above the height that was open to it then."""

    epoch: int
    open_height: int
    view: int
    signer: int


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two statements of one signer for one slot."""

    slot: Slot
    first: bytes
    second: bytes


class JournalAudit:
    """Everything that was found signed on one ledger, each signature verified by the set of its epoch."""

    def __init__(self, genesis: Genesis) -> None:
        self.contradictions: list[Contradiction] = []
        self._genesis = genesis
        self._chain_id = genesis.compute_chain_id()
        self._changes: tuple[EpochChange, ...] = ()
        self._signed: dict[Slot, bytes] = {}
        self._requests: set[Request] = set()

    @property
    def statement_count(self) -> int:
        return len(self._signed)

    @property
    def epochs(self) -> set[int]:
        """In which something was signed."""
        return {slot.epoch for slot in self._signed}

    def count_of(self, replica: int) -> int:
        """How many statements of one signer were found."""
        return sum(slot.signer == replica for slot in self._signed)

    def follow(self, changes: Sequence[EpochChange]) -> None:
        """Learn the sets of further epochs from one ledger's changes since the genesis.

        Raises ProofRefused when they do not follow from it, AssertionError when another ledger had others.
        """
        follow_epochs(self._genesis, changes)
        for known, change in zip(self._changes, changes, strict=False):
            told = [(item.certificate.height, item.replica_set) for item in (known, change)]
            assert told[0] == told[1], (
                f"two ledgers open epoch {change.replica_set.epoch} differently: {told}"
            )
        self._changes = max(self._changes, tuple(changes), key=len)

    def get_replica_set(self, epoch: int) -> ReplicaSet:
        assert epoch <= len(self._changes), f"epoch {epoch} is signed for, and no ledger has opened it"
        return self._changes[epoch - 1].replica_set if epoch else self._genesis.replica_set

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
            if isinstance(record, NewViewRecord):
                self.add_new_view(record.new_view)

    def add_certificate(self, certificate: Certificate) -> None:
        for vote in _list_commits(certificate):
            self.add_vote(vote)

    def add_vote(self, vote: Vote) -> None:
        """Raises InvalidSignature: a journal that holds what nobody signed is itself a finding."""
        signed = compute_vote_bytes(
            self._chain_id, vote.epoch, vote.height, vote.view, vote.phase, vote.digest
        )
        self._verify(vote, tags.VOTE, signed)
        slot = Slot(vote.epoch, vote.height, vote.view, Phase(vote.phase).name, vote.replica)
        self._add(slot, vote.digest)

    def add_view_change(self, view_change: ViewChange) -> None:
        """Raises InvalidSignature."""
        signed = compute_signed_bytes(self._chain_id, view_change)
        self._verify(view_change, tags.VIEW_CHANGE, signed)
        epoch, view, signer = view_change.epoch, view_change.view, view_change.replica
        self._add(Slot(epoch, 0, view, "VIEW_CHANGE", signer), compute_digest(signed))
        base = view_change.base
        open_height = 1 + (self._get_base(epoch) if base is None else base.height)
        self._requests.add(Request(epoch, open_height, view, signer))

    def add_new_view(self, new_view: NewView) -> None:
        """Raises InvalidSignature."""
        signed = compute_signed_bytes(self._chain_id, new_view)
        self._verify(new_view, tags.NEW_VIEW, signed)
        slot = Slot(new_view.epoch, 0, new_view.view, "NEW_VIEW", new_view.replica)
        self._add(slot, compute_digest(signed))

    def check(self) -> None:
        """Raises AssertionError when anybody contradicted itself, or voted where its epoch had no say."""
        assert self._signed, "no journal was read"
        assert not self.contradictions, self.contradictions
        votes = [slot for slot in self._signed if slot.height]
        astray = [slot for slot in votes if not self._is_in_epoch(slot)]
        assert not astray, f"votes outside their epoch: {astray}"
        below = [(slot, request) for request in self._requests for slot in votes if is_below(slot, request)]
        assert not below, f"votes below a view that was asked for: {below}"

    def _is_in_epoch(self, vote: Slot) -> bool:
        """Whether the vote's epoch decides upon its height.

        Above a recovery both do: those who were lost may have voted there before they were given up.
        """
        if vote.height <= self._get_base(vote.epoch):
            return False
        closing = self._changes[vote.epoch] if vote.epoch < len(self._changes) else None
        return closing is None or closing.recovery is not None or vote.height <= closing.certificate.height

    def _get_base(self, epoch: int) -> int:
        """The height below the epoch's first."""
        return self._changes[epoch - 1].certificate.height if epoch else 0

    def _add(self, slot: Slot, digest: bytes) -> None:
        known = self._signed.setdefault(slot, digest)
        if known != digest:
            self.contradictions.append(Contradiction(slot, known, digest))

    def _verify(self, statement: Vote | ViewChange | NewView, tag: bytes, signed: bytes) -> None:
        public_key = self.get_replica_set(statement.epoch).get_public_key(statement.replica)
        assert public_key is not None, f"replica {statement.replica} is not in epoch {statement.epoch}"
        verify_signature(public_key, tag, signed, statement.signature)


def is_below(vote: Slot, request: Request) -> bool:
    """Whether the vote came after the request, being for a later height, and is for a lower view."""
    return (
        (vote.epoch, vote.signer) == (request.epoch, request.signer)
        and vote.height > request.open_height
        and vote.view < request.view
    )


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

"""A replica as its journal left it.

What the journal vouches for is executed again before it is used; votes are repeated, never made anew; and no
view is entered for which neither the journal nor the head has the proof (rule V10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.certificates import Phase, PreparedCertificate
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    OverrideRecord,
    PreparedRecord,
    ProposalRecord,
    SilenceRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import NewView, ViewChange, Vote, make_pre_prepare
from consensus.replica_set import View
from consensus.state import ReplicaState


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The journal, read for the height after the head."""

    votes: tuple[Vote, ...]
    """All of mine above the head, in the head's epoch."""
    voted_height: int
    """The highest above the head that I voted for, in its epoch or a later one; 0 for none."""
    is_ahead: bool
    """I spoke in a later epoch, so the ledger has lost the block that opened it."""
    proposals: tuple[ProposalRecord, ...]
    prepared: PreparedCertificate | None
    view_change: ViewChange | None
    new_view: NewView | None
    silent_until: int | None
    """0 when silence was begun and its end not yet known, or was decided upon in an earlier epoch."""
    is_overridden: bool
    """An operator has ended the silence, and nothing was committed since."""


def read_journal(records: Sequence[JournalRecord], *, epoch: int, height: int) -> Memory:
    """What still counts of `records` when the head is at `height`."""
    prepared = [
        record.certificate
        for record in records
        if isinstance(record, PreparedRecord)
        and record.certificate.height == height + 1
        and record.certificate.epoch == epoch
    ]
    votes = [r.vote for r in records if isinstance(r, VoteRecord) and r.vote.height > height]
    view_changes = [r.view_change for r in records if isinstance(r, ViewChangeRecord)]
    new_views = [r.new_view for r in records if isinstance(r, NewViewRecord)]
    epochs = [vote.epoch for vote in votes] + [v.epoch for v in view_changes] + [v.epoch for v in new_views]
    silences = [r for r in records if isinstance(r, SilenceRecord)]
    is_overridden = any(isinstance(r, OverrideRecord) and r.height == height for r in records)
    # The last one counts, over or not: an earlier one that is still in the file was decided upon since.
    is_silent = bool(silences) and not 0 < silences[-1].until <= height and not is_overridden
    return Memory(
        votes=tuple(vote for vote in votes if vote.epoch == epoch),
        voted_height=max((vote.height for vote in votes if vote.epoch >= epoch), default=0),
        is_ahead=max(epochs, default=epoch) > epoch,
        proposals=tuple(r for r in records if isinstance(r, ProposalRecord) and r.height == height + 1),
        prepared=max(prepared, key=lambda certificate: certificate.view, default=None),
        view_change=next((v for v in reversed(view_changes) if v.epoch == epoch), None),
        new_view=next((v for v in reversed(new_views) if v.epoch == epoch), None),
        silent_until=(silences[-1].until if silences[-1].epoch == epoch else 0) if is_silent else None,
        is_overridden=is_overridden,
    )


def restore(memory: Memory, state: ReplicaState) -> None:
    """Take up where the journal ends."""
    _restore_views(memory, state)
    state.move_window()
    agreement, log = state.agreement, state.log
    agreement.prepared = memory.prepared
    for record in memory.proposals:
        agreement.restore(record)
    for vote in memory.votes:
        if vote.view < state.views.asked:
            continue  # Left behind by a VIEW-CHANGE that carries what must be kept of it.
        state.guard.restore(vote)
        if vote.epoch != state.credentials.epoch or not log.accepts(vote.height, vote.view):
            continue
        slot = log.get(vote.height, vote.view)
        proposal = agreement.get_proposal(vote.digest)
        if vote.phase is not Phase.PRE_PREPARE:
            log.add_own(vote)
        elif proposal is not None:
            slot.digest, slot.pre_prepare = vote.digest, make_pre_prepare(vote, proposal)


def _restore_views(memory: Memory, state: ReplicaState) -> None:
    head, views = state.head, state.views
    if head.certificate is not None and head.certificate.epoch == state.credentials.epoch:
        views.enter_by_certificate(head.certificate)
    if memory.new_view is not None and memory.new_view.view > views.view:
        views.restore(memory.new_view)
    if memory.view_change is not None and memory.view_change.view > views.view:
        views.adopt(memory.view_change, 0)
    voted = max((vote.view for vote in memory.votes if vote.height == head.height + 1), default=0)
    if voted > views.view:
        views.restore_view(View(voted), head.height)

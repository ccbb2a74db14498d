"""Proposals and the votes on them; which are open, and what each is about."""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from contracts import replica_sets, schedule
from contracts.calls import changes
from contracts.context import Context
from contracts.errors import Conflict
from contracts.schedule import Subject
from contracts.tables import ReadableState, Table

OPEN_PROPOSALS_MAX: Final = 16
"""Of one institution: who proposes more than it waits for would hide what matters from the others."""


class ProposalRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A proposed change; the row's key is the proposal's id."""

    proposer: bytes
    change: changes.Change
    revision: int
    """Of the change's subject, when it was made."""
    due_height: int
    proposed_height: int
    adopted_height: int
    """0 until adopted."""
    cancelled_height: int
    """0 unless it was adopted, scheduled, and cancelled before it was effective."""

    def is_lapsed(self, revision: int, height: int) -> bool:
        """Whether block `height` can no longer adopt it, the subject being at `revision` by now."""
        return not self.adopted_height and (self.revision != revision or height >= self.due_height)


class VoteRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One institution's vote; the row's key is proposal and institution."""

    approve: bool
    height: int


class OpenRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an institution had open when it last proposed something; the row's key is the institution."""

    proposals: tuple[bytes, ...]


proposals: Final = Table("governance", "proposals", ProposalRow)
votes: Final = Table("governance", "votes", VoteRow)
open_proposals: Final = Table("governance", "open_proposals", OpenRow)


def find_subject(change: changes.Change) -> Subject:
    match change:
        case changes.ReplicaSetChange():
            return "replica_set"
        case changes.Admission() | changes.Removal():
            return "institutions"
        case changes.ParametersChange():
            return "parameters"
        case changes.ContractActivation():
            return "contracts"
        case changes.Cancellation():
            return "schedule"
    assert_never(change)


def require_revision(context: Context, subject: Subject) -> int:
    """How often the subject was changed; recoveries change the replica set, too, and its epoch tells."""
    if subject == "replica_set":
        return replica_sets.require_replica_set(context).epoch
    return schedule.get_revision_number(context, subject)


def note_open(context: Context, institution: bytes, proposal: bytes) -> None:
    """One more open proposal of this institution. Raises Conflict `too_many_proposals`."""
    row = context.get(open_proposals, institution)
    still = tuple(known for known in (row.proposals if row else ()) if _is_open(context, known))
    if len(still) >= OPEN_PROPOSALS_MAX:
        raise Conflict(f"{len(still)} of its proposals are open: wait for one", code="too_many_proposals")
    context.put(open_proposals, institution, OpenRow((*still, proposal)))


def _is_open(context: Context, proposal: bytes) -> bool:
    row = context.get(proposals, proposal)
    if row is None or row.adopted_height:
        return False
    return not row.is_lapsed(require_revision(context, find_subject(row.change)), context.height)


def get_revision(state: ReadableState, subject: Subject) -> int:
    """The same, as committed."""
    if subject == "replica_set":
        present = replica_sets.get_replica_set(state)
        return present.epoch if present else 0
    row = schedule.revisions.get(state, schedule.compute_subject_key(subject))
    return row.number if row else 0


def list_proposals(state: ReadableState) -> list[tuple[bytes, ProposalRow]]:
    """Ids and rows of all that were ever made, in the order of their ids."""
    return list(proposals.scan(state))


def list_votes(state: ReadableState, proposal: bytes) -> list[tuple[bytes, VoteRow]]:
    """Institutions and their votes."""
    return [(key[len(proposal) :], row) for key, row in votes.scan(state, proposal)]

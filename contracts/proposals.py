"""Proposals and the votes on them; which are open, and what each is about."""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from contracts import replica_sets, schedule
from contracts.calls import changes
from contracts.context import Context
from contracts.schedule import Subject
from contracts.tables import ReadableState, Table


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


proposals: Final = Table("governance", "proposals", ProposalRow)
votes: Final = Table("governance", "votes", VoteRow)


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
    row = context.get(schedule.revisions, schedule.compute_subject_key(subject))
    return row.number if row else 0


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

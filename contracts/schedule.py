"""Subjects of governance, and the changes of them that were adopted and wait for their height.

A *subject* is what proposals are about, and what the others were weighed against when one of them is carried
out: its revision counts these, and proposals that speak of an earlier revision have lapsed. Most subjects are
one row, which another row replaces as a whole at the end of the block that a proposal names, so that every
replica knows before the next block what holds there. Each has at most one such change before it. What is
scheduled is a subject, too: until it is effective it can be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from contracts.context import Context
from contracts.errors import Conflict
from contracts.tables import ReadableState, Table

Subject = Literal["replica_set", "institutions", "parameters", "contracts", "schedule"]


class ScheduledRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """An adopted change that is not yet effective; the row's key is the subject."""

    proposal: bytes
    effective_height: int
    """The last block under the subject's present row."""
    following: bytes
    """The subject's next row, encoded as its own table has it."""


class RevisionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How often a subject was changed; the row's key is the subject, which has none while it never was."""

    number: int


scheduled: Final = Table("governance", "scheduled", ScheduledRow)
revisions: Final = Table("governance", "revisions", RevisionRow)


def compute_subject_key(subject: Subject) -> bytes:
    return subject.encode()


def get_scheduled(state: ReadableState, subject: Subject) -> ScheduledRow | None:
    return scheduled.get(state, compute_subject_key(subject))


def put_scheduled(context: Context, subject: Subject, row: ScheduledRow) -> None:
    context.put(scheduled, compute_subject_key(subject), row)


def require_nothing_scheduled(context: Context, subject: Subject) -> None:
    """Raises Conflict `change_scheduled`."""
    row = context.get(scheduled, compute_subject_key(subject))
    if row is not None:
        raise Conflict(
            f"a change of {subject} is effective at height {row.effective_height}: wait for it",
            code="change_scheduled",
        )


def require_scheduled(context: Context, proposal: bytes, subjects: Iterable[Subject]) -> Subject:
    """The subject that this proposal is about to change. Raises Conflict `not_scheduled`."""
    for subject in subjects:
        row = context.get(scheduled, compute_subject_key(subject))
        if row is not None and row.proposal == proposal:
            return subject
    raise Conflict(f"proposal {proposal.hex()} is not about to be effective", code="not_scheduled")


def drop_scheduled(context: Context, subject: Subject) -> None:
    """The subject stays as it is, and what else was proposed about it is open again."""
    context.delete(scheduled, compute_subject_key(subject))


def compute_effective_rows(state: ReadableState, subject: Subject) -> Mapping[bytes, bytes | None]:
    """What the end of a block writes of a change that is effective with it, beside the subject's row."""
    key = compute_subject_key(subject)
    return {
        scheduled.compute_state_key(key): None,
        revisions.compute_state_key(key): revisions.encode_row(_add_one(revisions.get(state, key))),
    }


def count_change(context: Context, subject: Subject) -> None:
    """A change was carried out at once: all other proposals about the subject have lapsed."""
    key = compute_subject_key(subject)
    context.put(revisions, key, _add_one(context.get(revisions, key)))


def get_revision_number(context: Context, subject: Subject) -> int:
    """How often the subject was changed by vote."""
    row = context.get(revisions, compute_subject_key(subject))
    return row.number if row else 0


def _add_one(row: RevisionRow | None) -> RevisionRow:
    return RevisionRow(1 + (row.number if row else 0))

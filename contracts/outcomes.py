"""Allowed requests that still owe an outcome, and the sweep that finds those who never told it.

A queue in ledger order: rows numbered one after another, and one row that says where it begins and ends.
Each authorisation and each outcome looks at no more than SWEPT_MAX rows at its head, drops those whose
outcome was told and turns those overdue into alerts; so no call pays for a backlog, and the head moves
faster than the end grows. What nobody has swept yet, `list_overdue` shows.

It is read by number, never by scanning: a scan over the head of a queue in LevelDB passes over every row
that was ever deleted there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.accesses import AccessRow, accesses
from contracts.alerts import count_own_alerts, raise_alert
from contracts.aliases import aliases
from contracts.context import Context
from contracts.parameters import get_parameters, require_parameters
from contracts.tables import ReadableState, Table

SWEPT_MAX: Final = 4
"""Rows at the head of the queue that one call looks at."""

OUTCOME_GRACE_MS: Final = 60_000
"""How long after the ticket's own time its outcome may still be on the way."""

_OWN_ALERTS_MAX: Final = 128
"""A transaction that raised so many alerts sweeps no more: its own reports must still find room."""

_KEY: Final = b"current"


class QueueRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the queue stands; the table has this one row."""

    first: int
    """Number of the oldest row."""
    end: int
    """One more than the number of the newest."""


class AwaitedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An allowed request; the key is its number (8 bytes, big-endian)."""

    access: bytes
    """Key of its access row, which tells whether the outcome is known."""


queue: Final = Table("monitoring", "outcome_queue", QueueRow)
awaited: Final = Table("monitoring", "awaited_outcomes", AwaitedRow)


def await_outcome(context: Context, access: bytes) -> None:
    """The request under this access key was allowed: its outcome is owed from now on."""
    found = context.get(queue, _KEY) or QueueRow(0, 0)
    context.put(awaited, _compute_key(found.end), AwaitedRow(access))
    context.put(queue, _KEY, QueueRow(found.first, found.end + 1))


def sweep_outcomes(context: Context) -> None:
    """Look at the oldest SWEPT_MAX requests: drop those settled, raise an alert for each overdue one."""
    found = context.get(queue, _KEY)
    if found is None:
        return
    first = found.first
    due_ms = _compute_due_ms(context.block_time_ms, require_parameters(context).ticket_age_ms_max)
    while first < min(found.end, found.first + SWEPT_MAX):
        row = context.get(awaited, _compute_key(first))
        assert row is not None, "a gap in the queue"
        access = context.get(accesses, row.access)
        assert access is not None, "an awaited outcome without its request"
        if not access.outcome:
            if access.time_ms >= due_ms or count_own_alerts(context) >= _OWN_ALERTS_MAX:
                break
            _raise_missing(context, row.access, access)
        context.delete(awaited, _compute_key(first))
        first += 1
    if first != found.first:
        context.put(queue, _KEY, QueueRow(first, found.end))


def list_overdue(state: ReadableState, time_ms: int) -> list[tuple[bytes, AccessRow]]:
    """Tickets and rows of requests overdue at `time_ms` that no call has swept yet, oldest first."""
    found, parameters = queue.get(state, _KEY), get_parameters(state)
    if found is None or parameters is None:
        return []
    due_ms = _compute_due_ms(time_ms, parameters.ticket_age_ms_max)
    overdue = []
    for number in range(found.first, found.end):
        row = awaited.get(state, _compute_key(number))
        access = None if row is None else accesses.get(state, row.access)
        if row is None or access is None or access.time_ms >= due_ms:
            break
        if not access.outcome:
            overdue.append((row.access[24:], access))
    return overdue


def _raise_missing(context: Context, access_key: bytes, access: AccessRow) -> None:
    alias, ticket = access_key[:16], access_key[24:]
    row = context.get(aliases, alias)
    assert row is not None, "an allowed request of an unknown alias"
    raise_alert(
        context,
        "outcome_missing",
        audience=row.compute_audience(access.institution),
        institution=access.institution,
        member=access.member,
        alias=alias,
        subject=ticket,
    )


def _compute_due_ms(now_ms: int, ticket_age_ms_max: int) -> int:
    """Requests of an earlier block time than this are overdue."""
    return now_ms - ticket_age_ms_max - OUTCOME_GRACE_MS


def _compute_key(number: int) -> bytes:
    return number.to_bytes(8, "big")

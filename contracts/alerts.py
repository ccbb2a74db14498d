"""Alerts: what regulators should look at, open until one of them acknowledges it.

An alert's key is height, transaction and number within it, so alerts lie in ledger order.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from contracts.context import Context
from contracts.errors import Conflict
from contracts.tables import ReadableState, Table

AlertKind = Literal["refusals", "mismatch", "outcome_missing", "equivocation"]

ALERTS_PER_TRANSACTION_MAX: Final = 255
"""The number within a transaction is one byte."""


class AlertRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Something that needs a regulator's eye. Empty where a field does not apply."""

    kind: AlertKind
    institution: bytes
    """Whom it is about: the requester, who reported a mismatch, or whose replica it is."""
    member: bytes
    """The member concerned."""
    alias: bytes
    subject: bytes
    """The record of a mismatch (16 bytes), the ticket without an outcome (32 bytes), or the slot of an
    equivocation (27 bytes, `contracts.equivocations`)."""
    finding: str
    """What a mismatch looked like, or which replica equivocated."""
    time_ms: int
    acknowledged_by: bytes
    acknowledged_height: int
    """0 while the alert is open."""


class OpenRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Present while the alert under the same key is open."""

    kind: AlertKind


alerts: Final = Table("monitoring", "alerts", AlertRow)
open_alerts: Final = Table("monitoring", "open_alerts", OpenRow)


def count_own_alerts(context: Context) -> int:
    """How many alerts this transaction has raised so far."""
    return sum(1 for _ in context.scan(alerts, _compute_prefix(context)))


def raise_alert(
    context: Context,
    kind: AlertKind,
    *,
    audience: tuple[bytes, ...],
    institution: bytes,
    member: bytes = b"",
    alias: bytes = b"",
    subject: bytes = b"",
    finding: str = "",
) -> bytes:
    """Write an open alert and tell `audience`; its key. Raises Conflict `too_many_alerts`."""
    number = count_own_alerts(context)
    if number >= ALERTS_PER_TRANSACTION_MAX:
        raise Conflict(
            f"more than {ALERTS_PER_TRANSACTION_MAX} alerts in one transaction: split it",
            code="too_many_alerts",
        )
    key = _compute_prefix(context) + bytes((number,))
    row = AlertRow(
        kind=kind,
        institution=institution,
        member=member,
        alias=alias,
        subject=subject,
        finding=finding,
        time_ms=context.block_time_ms,
        acknowledged_by=b"",
        acknowledged_height=0,
    )
    context.put(alerts, key, row)
    context.put(open_alerts, key, OpenRow(kind))
    context.emit("monitoring", "alert", audience, alias, key, kind, institution, member, subject, finding)
    return key


def get_alert(state: ReadableState, alert: bytes) -> AlertRow | None:
    return alerts.get(state, alert)


def list_alerts(state: ReadableState, *, open_only: bool = False) -> list[tuple[bytes, AlertRow]]:
    """Keys and rows in ledger order; with `open_only` it costs no more than there are open ones."""
    if not open_only:
        return list(alerts.scan(state))
    found = ((key, alerts.get(state, key)) for key, _ in open_alerts.scan(state))
    return [(key, row) for key, row in found if row is not None]


def _compute_prefix(context: Context) -> bytes:
    return context.height.to_bytes(8, "big") + context.transaction_id

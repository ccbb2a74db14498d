"""The contract of supervision: what institutions report, and alerts that regulators acknowledge.

What the other contracts write here: `contracts.alerts`, `contracts.counters`, `contracts.outcomes`,
`contracts.refusals`. None of it runs when a record is anchored.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.accesses import readers
from contracts.alerts import alerts, get_alert, list_alerts, open_alerts, raise_alert
from contracts.aliases import aliases, require_alias
from contracts.calls import monitoring as calls
from contracts.context import Context
from contracts.contract import Contract
from contracts.counters import Statistics, compute_cells, count
from contracts.equivocations import prove_equivocation
from contracts.errors import Conflict, NotFound, NotPermitted
from contracts.evidence import anchors
from contracts.outcomes import list_overdue
from contracts.registry import list_institutions, require_institution, require_regulator
from contracts.tables import ReadableState, Table

__all__ = ["compute_statistics", "contract", "get_alert", "list_alerts", "list_overdue"]

contract: Final = Contract("monitoring", version=1)


class MismatchRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last mismatch that one institution reported of one record; key: alias, record, institution."""

    alert: bytes


mismatches: Final = Table("monitoring", "mismatches", MismatchRow)


@contract.method(calls.ReportMismatch)
def report_mismatch(context: Context, arguments: calls.ReportMismatch) -> None:
    reporter = require_institution(context).institution
    alias = require_alias(context, arguments.alias)
    if reporter != alias.holder and context.get(readers, arguments.alias + reporter) is None:
        raise NotPermitted("only the holder, or who was ever allowed to read, may report a mismatch")
    if context.get(anchors, arguments.alias + arguments.anchor) is None:
        raise NotFound(f"anchor {arguments.anchor.hex()} is not under this alias", code="anchor_unknown")
    key = arguments.alias + arguments.record + reporter
    earlier = context.get(mismatches, key)
    # One open alert says it; every further read of the same broken record would only repeat it.
    if earlier is not None and context.get(open_alerts, earlier.alert) is not None:
        raise Conflict("this mismatch is reported and not yet acknowledged", code="already_reported")
    alert = raise_alert(
        context,
        "mismatch",
        audience=alias.compute_audience(reporter),
        institution=reporter,
        alias=arguments.alias,
        subject=arguments.record,
        finding=arguments.finding,
    )
    context.put(mismatches, key, MismatchRow(alert))
    count(context, alias.holder, "mismatches")


@contract.method(calls.ReportEquivocation)
def report_equivocation(context: Context, arguments: calls.ReportEquivocation) -> None:
    """Evidence proves itself, so any institution may bring it."""
    prove_equivocation(context, require_institution(context).institution, arguments)


@contract.method(calls.AcknowledgeAlert)
def acknowledge_alert(context: Context, arguments: calls.AcknowledgeAlert) -> None:
    caller = require_regulator(context)
    row = context.get(alerts, arguments.alert)
    if row is None:
        raise NotFound(f"alert {arguments.alert.hex()} is not on the ledger", code="alert_unknown")
    if row.acknowledged_height:
        raise Conflict(
            f"alert was acknowledged at height {row.acknowledged_height}", code="already_acknowledged"
        )
    acknowledged = msgspec.structs.replace(
        row, acknowledged_by=caller.institution, acknowledged_height=context.height
    )
    context.put(alerts, arguments.alert, acknowledged)
    context.delete(open_alerts, arguments.alert)
    alias = context.get(aliases, row.alias) if row.alias else None
    audience = (row.institution,) if alias is None else alias.compute_audience(row.institution)
    context.emit("monitoring", "alert_acknowledged", audience, row.alias, arguments.alert)


def compute_statistics(state: ReadableState, *, day: int | None = None) -> Statistics:
    """What happened at each institution, on one day (days since 1970) or since the genesis, so rounded
    that nothing can be told about single people; see `contracts.counters`."""
    names = [row.institution for row in list_institutions(state)]
    return compute_cells(state, names, day=day)

"""Refused requests of one member within an hour: so many of them raise an alert, once in that hour.

Hours are those of block time, not sliding: a member may have up to twice the number, less two, around the
turn of an hour without an alert.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.alerts import raise_alert
from contracts.context import Context
from contracts.parameters import require_parameters
from contracts.tables import Table

HOUR_MS: Final = 3_600_000


class RefusalsRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last hour in which a member was refused; key: institution and member."""

    hour: int
    """Hours since 1970."""
    count: int
    is_told: bool
    """Whether they have raised an alert: a vote may move the number that does so meanwhile."""


refusals: Final = Table("monitoring", "refusals", RefusalsRow)


def count_refusal(context: Context, *, institution: bytes, member: bytes) -> None:
    """One more refusal. `member` is a registered one, or the institution's own id for all handles that
    are not its members': made-up handles must neither dodge the count nor fill the table."""
    key, hour = institution + member, context.block_time_ms // HOUR_MS
    row = context.get(refusals, key)
    if row is None or row.hour != hour:
        row = RefusalsRow(hour, 0, False)
    is_told = row.is_told or row.count + 1 >= require_parameters(context).alert_refusals_per_hour
    context.put(refusals, key, RefusalsRow(hour, row.count + 1, is_told))
    if is_told and not row.is_told:
        raise_alert(context, "refusals", audience=(institution,), institution=institution, member=member)

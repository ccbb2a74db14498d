"""Counters of what happened, for each day, institution and kind, and the statistics made of them.

Statistics must not tell about single people. So every figure is rounded down to a multiple of ten, which
also hides each one under ten, zero included; and totals add up only what is shown, so that subtracting
gives nothing back. Figures are given for the whole ledger or for one day, never for ranges of the asker's
choice: many overlapping ranges, each rounded at another place, would together spell out a day's count.
What remains: where a figure steps by ten, something must have happened since the step before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec

from contracts.context import Context
from contracts.tables import ReadableState, Table

CountedKind = Literal[
    "folders",
    "grants",
    "revocations",
    "accesses_allowed",
    "accesses_refused",
    "deliveries_failed",
    "mismatches",
]
COUNTED_KINDS: Final[tuple[CountedKind, ...]] = get_args(CountedKind)
"""A row's key holds the position in here: append only."""

CELL_STEP: Final = 10
"""Figures are multiples of this; smaller ones are not shown."""

DAY_MS: Final = 86_400_000


class CounterRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How often something happened."""

    count: int


daily: Final = Table("monitoring", "daily", CounterRow)
"""Key: day (4 bytes, big-endian, days since 1970), institution and kind (1 byte)."""

totals: Final = Table("monitoring", "totals", CounterRow)
"""Key: institution and kind. Kept beside the days, so that asking for all of them reads few rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What happened at each institution, in steps of ten."""

    day: int | None
    """Days since 1970, or None for the whole ledger."""
    cells: tuple[tuple[bytes, CountedKind, int | None], ...]
    """Institution, kind, and at least how many; None for fewer than ten, none among them."""
    totals: tuple[tuple[CountedKind, int], ...]
    """The sum of the figures shown, never of those held back."""


def count(context: Context, institution: bytes, kind: CountedKind) -> None:
    """One more of `kind`, today, at `institution`."""
    cell = institution + bytes((COUNTED_KINDS.index(kind),))
    _increment(context, totals, cell)
    _increment(context, daily, compute_day_key(context.block_time_ms // DAY_MS) + cell)


def compute_day_key(day: int) -> bytes:
    """The first part of a day's keys."""
    return day.to_bytes(4, "big")


def compute_cells(
    state: ReadableState, institutions: Iterable[bytes], *, day: int | None = None
) -> Statistics:
    """Statistics with one cell for every institution and kind, whether or not anything happened."""
    found: dict[tuple[bytes, CountedKind], int | None] = {
        (institution, kind): None for institution in institutions for kind in COUNTED_KINDS
    }
    rows = totals.scan(state) if day is None else daily.scan(state, compute_day_key(day))
    for key, row in rows:
        found[key[-17:-1], COUNTED_KINDS[key[-1]]] = _round(row.count)
    cells = tuple((*cell, shown) for cell, shown in sorted(found.items()))
    sums = tuple(
        (kind, sum(shown or 0 for _, other, shown in cells if other == kind)) for kind in COUNTED_KINDS
    )
    return Statistics(day=day, cells=cells, totals=sums)


def _increment(context: Context, table: Table[CounterRow], key: bytes) -> None:
    row = context.get(table, key)
    context.put(table, key, CounterRow(1 if row is None else row.count + 1))


def _round(found: int) -> int | None:
    return found // CELL_STEP * CELL_STEP or None

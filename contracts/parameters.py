"""Parameters: what contracts decide alike on every replica; from the genesis, until a vote changes it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import msgspec

from contracts.calls.changes import ParametersChange
from contracts.context import Context
from contracts.errors import BadArguments, Conflict
from contracts.tables import ReadableState, Table

KEY: Final = b"current"
"""The table has one row."""

_DAY_MS: Final = 86_400_000

RANGES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "mandate_term_ms_max": (_DAY_MS, 3_660 * _DAY_MS),
        "ticket_age_ms_max": (1_000, 3_600_000),
        "alert_refusals_per_hour": (1, 10_000),
    }
)
"""From and to which value a vote can move each: beyond, nothing could be mandated, served or supervised."""


class ParametersRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """All parameters of the next block."""

    mandate_term_ms_max: int
    """How long a mandate may last, and how far ahead it may begin."""
    ticket_age_ms_max: int
    """How long after its block an allowed authorisation may be served."""
    alert_refusals_per_hour: int
    """Refusals of one member within an hour that raise an alert."""


parameters: Final = Table("governance", "parameters", ParametersRow)


def require_parameters(context: Context) -> ParametersRow:
    """The parameters; every ledger has them from its genesis block on."""
    row = context.get(parameters, KEY)
    assert row is not None, "no parameters in the state: it was not made by compute_genesis_rows"
    return row


def get_parameters(state: ReadableState) -> ParametersRow | None:
    return parameters.get(state, KEY)


def compute_next_parameters(context: Context, change: ParametersChange) -> ParametersRow:
    """The row with the named values. Raises BadArguments, of code `out_of_range` for one beyond its range;
    Conflict `no_change`.
    """
    names = [item.name for item in change.values]
    if any(first >= second for first, second in pairwise(names)):
        raise BadArguments(f"parameters {', '.join(names)}: ascending order without repetition expected")
    for item in change.values:
        low, high = RANGES[item.name]
        if not low <= item.value <= high:
            raise BadArguments(
                f"{item.name} {item.value} found, {low} to {high} expected", code="out_of_range"
            )
    present = require_parameters(context)
    following = msgspec.structs.replace(present, **{item.name: item.value for item in change.values})
    if following == present:
        raise Conflict("the parameters would stay as they are", code="no_change")
    return following

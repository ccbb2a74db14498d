"""Governance: what the founders laid down. Read only so far; proposals and votes come later.

Invariant: the rows are written once, with the genesis block, and by no method.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.context import Context
from contracts.contract import Contract
from contracts.tables import ReadableState, Table

contract: Final = Contract("governance", version=1)

KEY: Final = b"current"
"""Each table here has one row."""


class ParametersRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What contracts must decide alike on every replica."""

    mandate_term_ms_max: int
    ticket_age_ms_max: int
    """How long after its block an allowed authorisation may be served."""
    alert_refusals_per_hour: int
    """Refusals of one member within an hour that raise an alert."""


class FoundingRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who founded the ledger, with which contracts."""

    institutions: tuple[bytes, ...]
    """Ids in ascending order."""
    contracts: tuple[tuple[str, int], ...]
    """Names and versions in ascending order."""


parameters: Final = Table("governance", "parameters", ParametersRow)
founding: Final = Table("governance", "founding", FoundingRow)


def require_parameters(context: Context) -> ParametersRow:
    """The parameters; every ledger has them from its genesis block on."""
    row = context.get(parameters, KEY)
    assert row is not None, "no parameters in the state: it was not made by compute_genesis_rows"
    return row


def get_parameters(state: ReadableState) -> ParametersRow | None:
    return parameters.get(state, KEY)


def get_founding(state: ReadableState) -> FoundingRow | None:
    return founding.get(state, KEY)

"""Which version of each contract is active: from the genesis, until a vote switches on another at a height.

The ledger says what is active, the software what it can run (`contracts.catalog`): these rows must come out
alike on a node that does not have the next version yet, so nothing here looks at the software.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from contracts.calls.changes import ContractActivation, ContractVersion
from contracts.context import Context
from contracts.errors import Conflict
from contracts.schedule import compute_subject_key, scheduled
from contracts.tables import Table

KEY: Final = b"current"
"""The table has one row."""

ReadRow = Callable[[bytes], bytes | None]
"""A look-up of rows by full key."""


class VersionsRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The contracts of the next block."""

    active: tuple[ContractVersion, ...]
    """In ascending order of their names."""

    @property
    def by_name(self) -> Mapping[str, int]:
        return {item.contract: item.version for item in self.active}


versions: Final = Table("governance", "versions", VersionsRow)


def compute_next_versions(context: Context, change: ContractActivation) -> VersionsRow:
    """The row with the contract's next version; a new contract begins with version 1.

    Raises Conflict `not_next_version`: each version takes over the rows of the one before, and of no other.
    """
    row = context.get(versions, KEY)
    assert row is not None, "no contracts in the state: it was not made by compute_genesis_rows"
    active = dict(row.by_name)
    following = active.get(change.contract, 0) + 1
    if change.version != following:
        raise Conflict(
            f"version {change.version} of {change.contract} found, {following} expected",
            code="not_next_version",
        )
    active[change.contract] = following
    return VersionsRow(active=tuple(ContractVersion(name, active[name]) for name in sorted(active)))


def read_versions(get: ReadRow) -> Mapping[str, int] | None:
    """What is active in the block above these rows; None where they do not say."""
    data = get(versions.compute_state_key(KEY))
    return None if data is None else versions.decode_row(data).by_name


def read_coming_versions(get: ReadRow) -> tuple[int, Mapping[str, int]] | None:
    """The height above which other versions are scheduled, and all that are active then; None if none are."""
    data = get(scheduled.compute_state_key(compute_subject_key("contracts")))
    if data is None:
        return None
    row = scheduled.decode_row(data)
    return row.effective_height, versions.decode_row(row.following).by_name

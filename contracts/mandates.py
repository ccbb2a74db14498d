"""Mandates: a representative may speak for a patient, for some classes and a time.

Invariants: a mandate is attested by the custodian of its alias and keeps its scope and term; an ended one
stays ended. It permits nothing by itself: grants that name it need it active when given and when used.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from contracts.calls.fields import RecordClass
from contracts.tables import ReadableState, Table

MandateState = Literal["active", "suspended", "ended"]


class MandateRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Who may speak for the patient of an alias; the row's key is the mandate's id."""

    alias: bytes
    representative: bytes
    scope: tuple[RecordClass, ...]
    evidence: bytes
    from_ms: int
    until_ms: int
    custodian: bytes
    """Who attested it."""
    attested_height: int
    state: MandateState
    changed_height: int
    changed_by: bytes
    reason: str
    """Why it was suspended or ended; empty while active."""

    def is_active(self, time_ms: int) -> bool:
        """Whether the representative may speak at `time_ms`."""
        return self.state == "active" and self.from_ms <= time_ms < self.until_ms


class AliasMandateRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lists a mandate under its alias; the key is alias and mandate."""

    attested_height: int


mandates: Final = Table("folders", "mandates", MandateRow)
alias_mandates: Final = Table("folders", "alias_mandates", AliasMandateRow)


def get_mandate(state: ReadableState, mandate: bytes) -> MandateRow | None:
    return mandates.get(state, mandate)


def list_mandates(state: ReadableState, alias: bytes) -> list[tuple[bytes, MandateRow]]:
    """Ids and rows of all mandates ever attested for one alias."""
    found = ((key[16:], mandates.get(state, key[16:])) for key, _ in alias_mandates.scan(state, alias))
    return [(mandate, row) for mandate, row in found if row is not None]

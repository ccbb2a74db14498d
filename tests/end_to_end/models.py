"""What grants and records are to somebody who does one thing after the other: the sequential models.

They are written from docs/contracts.md, not from the contracts' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

GrantAction: TypeAlias = Literal["grant", "revoke", "authorize"]

USES_MAX: Final = 3
"""Authorisations that each grant covers."""


@dataclass(frozen=True, slots=True)
class GrantState:
    """One grant, from before it was given."""

    is_given: bool = False
    is_revoked: bool = False
    uses: int = 0


def carry_out_grant(state: GrantState, action: GrantAction) -> tuple[str, GrantState]:
    """`ok`, `allowed`, or the code of the refusal; and the grant afterwards."""
    match action:
        case "grant":
            return ("grant_exists", state) if state.is_given else ("ok", replace(state, is_given=True))
        case "revoke":
            if not state.is_given:
                return "grant_unknown", state
            return ("already_revoked", state) if state.is_revoked else ("ok", replace(state, is_revoked=True))
        case "authorize":
            if not state.is_given:
                return "no_grant", state
            if state.is_revoked:
                return "revoked", state
            if state.uses >= USES_MAX:
                return "used_up", state
            return "allowed", replace(state, uses=state.uses + 1)


@dataclass(frozen=True, slots=True)
class RecordAction:
    """`anchor` a first version, `supersede` one version by the next, or `withdraw` the version named."""

    kind: Literal["anchor", "supersede", "withdraw"]
    version: int
    content: str
    """Of the version named."""
    replacement: str = ""
    """Of the next version."""


@dataclass(frozen=True, slots=True)
class RecordState:
    """One record: its current version, 0 before it was anchored."""

    version: int = 0
    content: str = ""
    is_withdrawn: bool = False


def carry_out_record(state: RecordState, action: RecordAction) -> tuple[str, RecordState]:
    """`ok` or the code of the refusal; and the record afterwards."""
    if action.kind == "anchor":
        taken = RecordState(1, action.content)
        return ("anchor_exists", state) if state.version else ("ok", taken)
    if not state.version:
        return "anchor_unknown", state
    if state.is_withdrawn:
        return "already_withdrawn", state
    if (state.version, state.content) != (action.version, action.content):
        # Until it changes for the first time, a record is known by its anchor alone.
        return ("not_in_anchor" if state.version == 1 else "not_current"), state
    if action.kind == "withdraw":
        return "ok", replace(state, is_withdrawn=True)
    return "ok", RecordState(state.version + 1, action.replacement)

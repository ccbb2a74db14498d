"""Grants, and the pair rows that prove who had one when.

Invariants: a grant keeps its terms; only its uses and its revocation change. A pair row lists every grant
that a grantee ever had of an alias, and is never deleted, so that its proof at any later head answers for
every height; `had_grant` reads it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.calls.authorization import Assurance, Profile
from contracts.calls.fields import Purpose, RecordClass
from contracts.context import Context
from contracts.errors import Conflict
from contracts.tables import ReadableState, Table

GRANTS_PER_PAIR_MAX: Final = 1_024
"""Grants that one grantee may ever have of one alias: 38 kB, well within a row."""


class GrantRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A permission to read; the row's key is the grant's id."""

    alias: bytes
    institution: bytes
    member: bytes
    """Who of the institution may read, or empty for any of its clinicians."""
    classes: tuple[RecordClass, ...]
    purpose: Purpose
    profile: Profile
    from_ms: int
    until_ms: int
    uses_max: int
    """0 for any number."""
    assurance: Assurance
    mandate: bytes
    notice_version: str
    granted_by: bytes
    """The custodian's id; empty when the patient's own key gave it."""
    granted_height: int
    uses: int
    """Requests allowed under it so far."""
    closed_height: int
    """Where it was revoked; 0 before."""
    closed_by: bytes
    """The institution that revoked it; empty when the patient's own key did."""

    @property
    def grantee(self) -> bytes:
        """The member, or the institution when none is named."""
        return self.member or self.institution

    @property
    def is_used_up(self) -> bool:
        return self.uses_max != 0 and self.uses >= self.uses_max

    def is_live(self, time_ms: int) -> bool:
        """Whether it still covers a new request at `time_ms`, its mandate and alias apart."""
        return not self.closed_height and not self.is_used_up and self.from_ms <= time_ms < self.until_ms


class PairEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One grant of a pair."""

    grant: bytes
    from_height: int
    closed_height: int
    """0 while it is not revoked. Its hours are the grant's own."""


class PairRow(msgspec.Struct, frozen=True, array_like=True):
    """Every grant of one alias to one grantee, oldest first; key: alias, then member or institution."""

    entries: tuple[PairEntry, ...]

    def had_grant(self, height: int) -> bool:
        """Whether a grant stood, given and not revoked, after the block at `height`."""
        return any(
            entry.from_height <= height and (not entry.closed_height or height < entry.closed_height)
            for entry in self.entries
        )


grants: Final = Table("authorization", "grants", GrantRow)
pairs: Final = Table("authorization", "pairs", PairRow)


def add_grant(context: Context, grant: bytes, row: GrantRow) -> None:
    """Write a new grant and list it in its pair. Raises Conflict `grant_exists`, `too_many_grants`."""
    if context.get(grants, grant) is not None:
        raise Conflict(f"grant {grant.hex()} exists: draw another id", code="grant_exists")
    pair = context.get(pairs, row.alias + row.grantee)
    entries = () if pair is None else pair.entries
    if len(entries) >= GRANTS_PER_PAIR_MAX:
        raise Conflict(
            f"this grantee had {len(entries)} grants of this alias: the most that are kept",
            code="too_many_grants",
        )
    context.put(grants, grant, row)
    entry = PairEntry(grant, row.granted_height, 0)
    context.put(pairs, row.alias + row.grantee, PairRow((*entries, entry)))


def close_grant(context: Context, grant: bytes, row: GrantRow, *, closed_by: bytes) -> None:
    """Revoke a grant, in its own row and in its pair. Raises Conflict `already_revoked`."""
    if row.closed_height:
        raise Conflict(
            f"grant {grant.hex()}: already revoked at height {row.closed_height}", code="already_revoked"
        )
    closed = msgspec.structs.replace(row, closed_height=context.height, closed_by=closed_by)
    context.put(grants, grant, closed)
    pair = context.get(pairs, row.alias + row.grantee)
    assert pair is not None, "a grant without its pair row"
    entries = tuple(
        PairEntry(entry.grant, entry.from_height, context.height) if entry.grant == grant else entry
        for entry in pair.entries
    )
    context.put(pairs, row.alias + row.grantee, PairRow(entries))


def compute_pair_state_key(alias: bytes, grantee: bytes) -> bytes:
    """The full state key of a pair row, as state proofs name it."""
    return pairs.compute_state_key(alias + grantee)


def get_grant(state: ReadableState, grant: bytes) -> GrantRow | None:
    return grants.get(state, grant)


def get_pair(state: ReadableState, alias: bytes, grantee: bytes) -> PairRow | None:
    """`grantee` is a member's handle or an institution's id."""
    return pairs.get(state, alias + grantee)


def list_grants(state: ReadableState, alias: bytes) -> list[tuple[bytes, GrantRow]]:
    """Ids and rows of every grant of one alias, revoked ones too."""
    entries = [entry for _, pair in pairs.scan(state, alias) for entry in pair.entries]
    return _read_entries(state, entries)


def list_live_grants(
    state: ReadableState, *, alias: bytes, institution: bytes, member: bytes, time_ms: int
) -> list[tuple[bytes, GrantRow]]:
    """Grants of one alias under which this member might be allowed a request at `time_ms`."""
    found = (pairs.get(state, alias + grantee) for grantee in (member, institution))
    entries = [entry for pair in found if pair for entry in pair.entries if not entry.closed_height]
    return [
        (grant, row)
        for grant, row in _read_entries(state, entries)
        if row.institution == institution and row.is_live(time_ms)
    ]


def _read_entries(state: ReadableState, entries: list[PairEntry]) -> list[tuple[bytes, GrantRow]]:
    found = ((entry.grant, grants.get(state, entry.grant)) for entry in entries)
    return [(grant, row) for grant, row in found if row is not None]

"""The audit trail: every request to read, allowed or refused, and what came of it.

Invariant: one row for each request, for ever; only the outcome of an allowed one is added to it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from contracts.calls.authorization import Outcome
from contracts.calls.fields import Purpose
from contracts.tables import ReadableState, Table

RefusalReason = Literal[
    "unknown_alias",
    "member_unknown",
    "member_suspended",
    "alias_frozen",
    "no_grant",
    "grant_of_other_folder",
    "not_grantee",
    "revoked",
    "not_started",
    "expired",
    "used_up",
    "mandate_inactive",
    "purpose_not_granted",
    "no_anchors",
    "unknown_anchor",
    "class_not_granted",
]
"""In the order in which they are looked for; the first one found is told."""


class AccessRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One request; key: alias, height (8 bytes, big-endian), ticket (its transaction's id).

    The requests for unknown aliases lie under the requester's institution's id instead, so that nothing
    is ever found under an alias from before it was registered.
    """

    institution: bytes
    """The requester's."""
    member: bytes
    grant: bytes
    """The grant relied on; empty when there was none, or one of another alias."""
    anchors: tuple[bytes, ...]
    purpose: Purpose
    ephemeral_key: bytes
    details: bytes
    time_ms: int
    """Block time of the request."""
    refusal: RefusalReason | Literal[""]
    """Empty when it was allowed."""
    outcome: Outcome | Literal[""]
    """Empty until it is told, and for refused requests."""
    outcome_height: int

    @property
    def is_allowed(self) -> bool:
        return self.refusal == ""


class ReaderRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An institution that was ever allowed to read of an alias; key: alias and institution."""

    last_height: int


accesses: Final = Table("authorization", "accesses", AccessRow)
readers: Final = Table("authorization", "readers", ReaderRow)


def compute_access_key(alias: bytes, height: int, ticket: bytes) -> bytes:
    return alias + height.to_bytes(8, "big") + ticket


def get_access(state: ReadableState, alias: bytes, height: int, ticket: bytes) -> AccessRow | None:
    """The request of the transaction `ticket` committed at `height`."""
    return accesses.get(state, compute_access_key(alias, height, ticket))


def list_accesses(state: ReadableState, alias: bytes) -> list[tuple[int, bytes, AccessRow]]:
    """Heights, tickets and rows of all requests for one alias, oldest first."""
    return [(int.from_bytes(key[16:24], "big"), key[24:], row) for key, row in accesses.scan(state, alias)]


def list_readers(state: ReadableState, alias: bytes) -> list[tuple[bytes, ReaderRow]]:
    """Institutions that were ever allowed to read of one alias."""
    return [(key[16:], row) for key, row in readers.scan(state, alias)]

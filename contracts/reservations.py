"""What open admissions are about to use: ids and keys that nobody takes for something else meanwhile.

Invariant: what an admission names is as free when it would be adopted as when it was proposed. A reservation
holds as long as its proposal is open, and ends by itself with it. Further admissions may name the same id or
key: the one that is adopted ends the others.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.calls.changes import Admission
from contracts.context import Context
from contracts.schedule import get_revision_number
from contracts.tables import Table


class ReservationRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """The row's key is the id or the public key."""

    revision: int
    """Of the institutions, when the admission was proposed."""
    until_height: int
    """Where the proposal lapses, the latest of those that name the id or key."""


reserved_ids: Final = Table("governance", "reserved_ids", ReservationRow)
reserved_keys: Final = Table("governance", "reserved_keys", ReservationRow)


def reserve(context: Context, change: Admission, until_height: int) -> None:
    """For an admission that is proposed now; its key has signed for it."""
    _reserve(context, reserved_ids, change.institution, until_height)
    _reserve(context, reserved_keys, change.public_key, until_height)


def release(context: Context, change: Admission) -> None:
    """It is adopted, and takes what it reserved."""
    context.delete(reserved_ids, change.institution)
    context.delete(reserved_keys, change.public_key)


def is_id_reserved(context: Context, identifier: bytes) -> bool:
    return _holds(context, context.get(reserved_ids, identifier))


def is_key_reserved(context: Context, public_key: bytes) -> bool:
    return _holds(context, context.get(reserved_keys, public_key))


def _reserve(context: Context, table: Table[ReservationRow], key: bytes, until_height: int) -> None:
    row = context.get(table, key)
    if row is not None and _holds(context, row):
        until_height = max(until_height, row.until_height)
    revision = get_revision_number(context, "institutions")
    context.put(table, key, ReservationRow(revision=revision, until_height=until_height))


def _holds(context: Context, row: ReservationRow | None) -> bool:
    if row is None or context.height >= row.until_height:
        return False
    return row.revision == get_revision_number(context, "institutions")

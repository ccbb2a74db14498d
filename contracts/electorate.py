"""Who decides on the network: the institutions that are registered and not suspended, each with one voice.

One row, so that a single proof of state shows the whole electorate to whoever verifies a decision offline.
The registry keeps it with every key that is replaced and every institution that is suspended or reinstated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from contracts.context import Context
from contracts.tables import ReadableState, Table

KEY: Final = b"current"
"""The table has one row."""

INSTITUTIONS_MAX: Final = 1_000
"""Registered ones: as many votes as one call can count."""


class ElectorateRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """The voices at one height."""

    active: tuple[tuple[bytes, bytes], ...]
    """Institution and its open key, in ascending order of the institutions."""
    registered_count: int
    """Institutions altogether: suspended ones included, removed ones not."""

    @property
    def institutions(self) -> tuple[bytes, ...]:
        return tuple(institution for institution, _ in self.active)

    def is_majority(self, voters: Iterable[bytes]) -> bool:
        """Whether these institutions may decide for all, but for who these are.

        More than half of the active ones; and more than a third of all, or a regulator that suspends the
        others would be a majority of one.
        """
        count = self._count(voters)
        return 2 * count > len(self.active) and 3 * count > self.registered_count

    def is_majority_of_all(self, voters: Iterable[bytes]) -> bool:
        """Whether these institutions may decide on who is registered at all: more than half of those who are.

        What a suspension lets fewer decide can be undone after it; who was removed never returns, and who
        was admitted meanwhile votes.
        """
        return 2 * self._count(voters) > self.registered_count

    def _count(self, voters: Iterable[bytes]) -> int:
        return len(set(voters) & set(self.institutions))


electorate: Final = Table("registry", "electorate", ElectorateRow)


def require_electorate(context: Context) -> ElectorateRow:
    """The row; every ledger has it from its genesis block on."""
    row = context.get(electorate, KEY)
    assert row is not None, "no electorate in the state: it was not made by compute_genesis_rows"
    return row


def get_electorate(state: ReadableState) -> ElectorateRow | None:
    return electorate.get(state, KEY)


def put_voice(context: Context, institution: bytes, public_key: bytes | None) -> None:
    """An institution votes with this key from now on, or with none while it is suspended."""
    row = require_electorate(context)
    voices = dict(row.active)
    voices.pop(institution, None)
    if public_key is not None:
        voices[institution] = public_key
    context.put(electorate, KEY, msgspec.structs.replace(row, active=tuple(sorted(voices.items()))))


def add_voice(context: Context, institution: bytes, public_key: bytes) -> None:
    """A further institution has a voice."""
    row = require_electorate(context)
    context.put(electorate, KEY, msgspec.structs.replace(row, registered_count=row.registered_count + 1))
    put_voice(context, institution, public_key)


def remove_voice(context: Context, institution: bytes) -> None:
    """An institution is gone for good, suspended or not; it counts no more."""
    context.put(electorate, KEY, compute_electorate_without(require_electorate(context), institution))


def compute_electorate_without(row: ElectorateRow, institution: bytes) -> ElectorateRow:
    """The voices once a registered institution is removed."""
    active = tuple(voice for voice in row.active if voice[0] != institution)
    return ElectorateRow(active=active, registered_count=row.registered_count - 1)

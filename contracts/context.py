"""What a contract sees of the world: its caller, the block it runs in, tables, and a place for events.

Invariant: writes stay in the context until the whole transaction has succeeded; nothing a contract does
can reach the parent state or another transaction before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from contracts.errors import BadArguments, BudgetExceeded, NotPermitted
from contracts.tables import ROW_BYTES_MAX, ReadableState, Table
from crypto.encoding import encode

RowT = TypeVar("RowT", bound=msgspec.Struct)

OPERATIONS_PER_CALL_MAX: Final = 4_096
"""Rows that one call may read, write or pass over in a scan."""

BYTES_PER_CALL_MAX: Final = 1_048_576
"""Bytes of rows and events that one call may read and write."""

EVENTS_PER_CALL_MAX: Final = 16
"""Events that one call may emit; the most that a built-in method emits is six."""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that happened, told to `audience` and to every regulator.

    `fields` is the canonical encoding of a tuple of integers, bytes and text; ids and codes only.
    """

    contract: str
    name: str
    audience: tuple[bytes, ...]
    fields: bytes


class Context:
    """One transaction's view while its calls run; see the module's docstring."""

    __slots__ = (
        "_bytes_left",
        "_events_max",
        "_operations_granted",
        "_operations_left",
        "_parent",
        "_writable",
        "block_time_ms",
        "caller",
        "chain_id",
        "events",
        "height",
        "transaction_id",
        "writes",
    )

    def __init__(
        self,
        parent: ReadableState,
        *,
        caller: bytes,
        chain_id: bytes,
        height: int,
        block_time_ms: int,
        transaction_id: bytes,
    ) -> None:
        self._parent = parent
        self._writable: frozenset[str] = frozenset()
        self._operations_left = self._operations_granted = self._bytes_left = self._events_max = 0
        self.caller = caller
        """The sender's public key, 32 bytes; its signature has been verified."""
        self.chain_id = chain_id
        self.height = height
        self.block_time_ms = block_time_ms
        self.transaction_id = transaction_id
        self.writes: dict[bytes, bytes | None] = {}
        """Full state key to row bytes, or None for a deleted row."""
        self.events: list[Event] = []

    def begin_call(self, writable: frozenset[str]) -> None:
        """A call starts: fresh budgets, and the contracts whose tables it may write."""
        self._writable = writable
        self._operations_granted += OPERATIONS_PER_CALL_MAX - self._operations_left
        self._operations_left = OPERATIONS_PER_CALL_MAX
        self._bytes_left = BYTES_PER_CALL_MAX
        self._events_max = len(self.events) + EVENTS_PER_CALL_MAX

    @property
    def operations_spent(self) -> int:
        """Rows touched by all calls so far; the block's own budget counts them."""
        return self._operations_granted - self._operations_left

    def get(self, table: Table[RowT], key: bytes) -> RowT | None:
        """The row, or None. Any contract's tables may be read."""
        full_key = table.prefix + key
        data = self.writes[full_key] if full_key in self.writes else self._parent.get(full_key)
        if data is None:
            self._spend(len(full_key))
            return None
        self._spend(len(data))
        return table.decode_row(data)

    def put(self, table: Table[RowT], key: bytes, row: RowT) -> None:
        """Write a row. Raises NotPermitted for a table that this contract may not write."""
        data = table.encode_row(row)
        if len(data) > ROW_BYTES_MAX:
            raise BadArguments(f"row of {len(data)} bytes found, at most {ROW_BYTES_MAX} allowed")
        self._write(table, key, data)

    def delete(self, table: Table[RowT], key: bytes) -> None:
        """Remove a row; removing an absent one changes nothing."""
        self._write(table, key, None)

    def scan(self, table: Table[RowT], prefix: bytes = b"") -> Iterator[tuple[bytes, RowT]]:
        """Keys and rows in key order, this transaction's own writes included; each row costs an operation.

        The table must not be written while the scan runs.
        """
        full_prefix = table.prefix + prefix
        own = sorted(key for key in self.writes if key.startswith(full_prefix))
        skip = len(table.prefix)
        for key, data in _merge(self._parent.scan(full_prefix), own, self.writes):
            self._spend(len(data))
            yield key[skip:], table.decode_row(data)

    def emit(self, contract: str, name: str, audience: tuple[bytes, ...], *fields: object) -> None:
        """Add an event to the receipt; `audience` holds the institution ids that may see it."""
        event = Event(contract, name, audience, encode(fields))
        self._spend(len(event.fields) + 16 * len(audience))
        if len(self.events) >= self._events_max:
            raise BudgetExceeded(f"more than {EVENTS_PER_CALL_MAX} events in one call")
        self.events.append(event)

    def _write(self, table: Table[RowT], key: bytes, data: bytes | None) -> None:
        if table.contract not in self._writable:
            raise NotPermitted(f"table {table.contract}/{table.name} is not this contract's to write")
        self._spend(len(key) + (0 if data is None else len(data)))
        self.writes[table.prefix + key] = data

    def _spend(self, count: int) -> None:
        self._operations_left -= 1
        self._bytes_left -= count
        if self._operations_left < 0 or self._bytes_left < 0:
            raise BudgetExceeded(
                f"one call may touch {OPERATIONS_PER_CALL_MAX} rows and {BYTES_PER_CALL_MAX} bytes"
            )


def _merge(
    parent: Iterator[tuple[bytes, bytes]], own: list[bytes], writes: dict[bytes, bytes | None]
) -> Iterator[tuple[bytes, bytes]]:
    """Parent rows overlaid with own writes, in key order, without deleted rows."""
    position = 0
    for key, data in parent:
        while position < len(own) and own[position] < key:
            mine = writes[own[position]]
            if mine is not None:
                yield own[position], mine
            position += 1
        if position < len(own) and own[position] == key:
            continue
        yield key, data
    for key in own[position:]:
        mine = writes[key]
        if mine is not None:
            yield key, mine

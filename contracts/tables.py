"""Typed tables over the flat key space of the state.

A row's full state key is `contract/table/` followed by the row's key bytes. Keys within one table have
fixed-length parts, so no key is a prefix of another and prefix scans mean what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

import msgspec

ROW_BYTES_MAX: Final = 65_536
"""A row's encoded size; a larger one is the contract's fault."""

RowT = TypeVar("RowT", bound=msgspec.Struct)

_encode = msgspec.msgpack.Encoder().encode


class ReadableState(Protocol):
    """Committed rows, possibly under the writes of a block in execution."""

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes, or None."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Full keys and rows whose key starts with `prefix`, in key order."""


class Table(Generic[RowT]):
    """One table of one contract; `row` is an `array_like` struct."""

    __slots__ = ("_decode", "contract", "name", "prefix", "row")

    def __init__(self, contract: str, name: str, row: type[RowT]) -> None:
        self.contract = contract
        self.name = name
        self.row = row
        self.prefix = f"{contract}/{name}/".encode()
        self._decode = msgspec.msgpack.Decoder(row).decode

    def compute_state_key(self, key: bytes) -> bytes:
        """The full key, as proofs of presence and absence name it."""
        return self.prefix + key

    def encode_row(self, row: RowT) -> bytes:
        return _encode(row)

    def decode_row(self, data: bytes) -> RowT:
        return self._decode(data)

    def get(self, state: ReadableState, key: bytes) -> RowT | None:
        """The row under `key`, or None."""
        data = state.get(self.prefix + key)
        return None if data is None else self._decode(data)

    def scan(self, state: ReadableState, prefix: bytes = b"") -> Iterator[tuple[bytes, RowT]]:
        """Keys (without the table's own prefix) and rows, in key order."""
        skip = len(self.prefix)
        for key, data in state.scan(self.prefix + prefix):
            yield key[skip:], self._decode(data)

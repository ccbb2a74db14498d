"""Committed state as contracts and gateways read it, and a block's writes over it.

Invariant: a `HeadState` shows exactly the rows of the committed head, from a snapshot of the database, so
a batch that is being written beside it is never half visible.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from contracts.tables import ReadableState
from ledger.layout import STATE
from ledger.store import Rows


class HeadState:
    """Rows of the head, with a bounded cache of those that permission checks read again and again."""

    def __init__(
        self,
        rows: Rows,
        *,
        may_hold: Callable[[bytes], bool],
        cached_rows_max: int,
        cached_row_bytes_max: int,
    ) -> None:
        """`may_hold` says without a look into the database that there is no row under a key, where it can."""
        self._rows = rows
        self._may_hold = may_hold
        self._cached_rows_max = cached_rows_max
        self._cached_row_bytes_max = cached_row_bytes_max
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, key: bytes) -> bytes | None:
        """The row, or None. Raises StoreFailed."""
        row = self._cache.get(key)
        if row is not None:
            return row
        if not self._may_hold(key):
            return None
        row = self._rows.get(STATE + key)
        # Absent rows are not cached: what is asked for once by a fresh random id is not asked for again.
        if row is not None and len(row) <= self._cached_row_bytes_max:
            if len(self._cache) >= self._cached_rows_max:
                self._cache.popitem(last=False)
            self._cache[key] = row
        return row

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Full keys and rows in key order, of the head at which the scan began. Raises StoreFailed."""
        for key, row in self._rows.scan(STATE + prefix):
            yield key[len(STATE) :], row

    def advance(self, rows: Rows, writes: Mapping[bytes, bytes | None]) -> None:
        """The next height's rows, and what its block wrote."""
        self._rows = rows
        for key in writes:
            # The newest row is read again when somebody asks; most written rows nobody asks for soon.
            self._cache.pop(key, None)


class BlockOverlay:
    """The writes of a block in execution over its parent's rows."""

    def __init__(self, parent: ReadableState) -> None:
        self._parent = parent
        self.writes: dict[bytes, bytes | None] = {}
        self._sorted: list[bytes] | None = None

    def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        return self._parent.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Full keys and rows in key order; the overlay must not be merged into while the scan runs."""
        own = self._list_own(prefix)
        position = 0
        for key, row in self._parent.scan(prefix):
            while position < len(own) and own[position] < key:
                yield from self._show(own[position])
                position += 1
            if position < len(own) and own[position] == key:
                yield from self._show(key)
                position += 1
            else:
                yield key, row
        for key in own[position:]:
            yield from self._show(key)

    def merge(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Take in what a whole transaction wrote."""
        if self._sorted is not None:
            for key in writes:
                if key not in self.writes:
                    insort(self._sorted, key)
        self.writes.update(writes)

    def _show(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        row = self.writes[key]
        if row is not None:
            yield key, row

    def _list_own(self, prefix: bytes) -> list[bytes]:
        """Written keys under `prefix`; the sorted list is kept only once a block scans at all."""
        if self._sorted is None:
            self._sorted = sorted(self.writes)
        start = bisect_left(self._sorted, prefix)
        end = start
        while end < len(self._sorted) and self._sorted[end].startswith(prefix):
            end += 1
        return self._sorted[start:end]

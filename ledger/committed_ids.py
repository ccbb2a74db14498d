"""Which transactions were committed lately: a filter that spares nearly every new one a database look-up.

Two Bloom filters of fixed size, one after the other; a transaction id is a SHA-256, so its own bytes serve as
the hash functions. An id is remembered for at least the expiry window after its block: what is older can no
longer be included anyway, whoever sends it again.

Invariant: `may_hold` never says False of an id that a block within the window holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_BITS_LOG2: Final = 24
FILTER_BYTES: Final = 1 << _BITS_LOG2 - 3
"""2 MiB each; with a million ids in it one in 80 new ones is looked up in vain."""
_PROBES: Final = 2
_MASK: Final = (1 << _BITS_LOG2) - 1
_ID_BYTES_USED: Final = _PROBES * _BITS_LOG2 // 8


class CommittedIds:
    """Ids of committed transactions, as far back as they can matter."""

    def __init__(self, *, window_ms: int, complete_from_ms: int) -> None:
        """`complete_from_ms`: block time since which every id will have been added; 0 for a new ledger."""
        self._window_ms = window_ms
        self._complete_from_ms = complete_from_ms
        self._time_ms = complete_from_ms
        self._since_ms = complete_from_ms
        self._current = bytearray(FILTER_BYTES)
        self._previous = bytearray(FILTER_BYTES)

    def add(self, transaction_ids: Iterable[bytes], *, time_ms: int) -> None:
        """The ids of a block of this time; blocks come in their order."""
        if time_ms - self._since_ms > self._window_ms:
            # What the older filter holds was committed more than a window ago and has expired.
            self._previous, self._current = self._current, bytearray(FILTER_BYTES)
            self._since_ms = time_ms
        self._time_ms = time_ms
        bits = self._current
        for transaction_id in transaction_ids:
            number = int.from_bytes(transaction_id[:_ID_BYTES_USED], "big")
            for _ in range(_PROBES):
                bits[(number & _MASK) >> 3] |= 1 << (number & 7)
                number >>= _BITS_LOG2

    def may_hold(self, transaction_id: bytes) -> bool:
        """False when no block that still matters holds the id; True calls for a look into the database."""
        if self._time_ms - self._window_ms < self._complete_from_ms:
            return True
        number = int.from_bytes(transaction_id[:_ID_BYTES_USED], "big")
        return _is_in(self._current, number) or _is_in(self._previous, number)


def _is_in(bits: bytearray, number: int) -> bool:
    for _ in range(_PROBES):
        if not bits[(number & _MASK) >> 3] & 1 << (number & 7):
            return False
        number >>= _BITS_LOG2
    return True

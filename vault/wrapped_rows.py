"""Rows of a database whose values are wrapped under the key ring, each bound to its own key.

It knows when a row is read while keys rotate: the row that was fetched under the old key is fetched again
before anybody is told that it does not open.
"""

from __future__ import annotations

from crypto.hazmat.aead import DecryptionError
from vault.key_ring import KeyRing
from vault.store import Database


class WrappedRows:
    """Wrapped values by key."""

    __slots__ = ("database", "ring")

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self.database = database
        self.ring = ring

    def get(self, key: bytes, binding: bytes) -> bytes | None:
        """The value, or None. Raises DecryptionError when it was altered, moved, or its key is gone."""
        wrapped = self.database.get(key)
        return None if wrapped is None else self.unwrap(key, wrapped, binding)

    def unwrap(self, key: bytes, wrapped: bytes, binding: bytes) -> bytes:
        """The value of a row that was read before. Raises DecryptionError like `get`."""
        try:
            return self.ring.unwrap(wrapped, binding)
        except DecryptionError:
            # A rotation may have ended between reading the row and using its key.
            again = self.database.get(key)
            if again is None or again == wrapped:
                raise
            return self.ring.unwrap(again, binding)

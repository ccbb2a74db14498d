"""Small encrypted tables beside the records, for what a gateway must keep and nobody else may read.

A row's key is a keyed name and its value is wrapped together with the true key, so a copy of the files tells
neither. Whoever has the ring and the files can put an older row back; counters that must not go back belong
on the ledger. Scanning opens every row of the table: meant for thousands, not millions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import RLock
from typing import Final

from crypto.encoding import EncodingError, decode, encode
from crypto.hazmat.aead import DecryptionError
from vault.errors import ContentRefused, VaultFailed
from vault.key_ring import KeyRing
from vault.store import Database
from vault.versions import TABLE, compute_index_binding
from vault.wrapped_rows import WrappedRows

KEY_BYTES_MAX: Final = 1_024
VALUE_BYTES_MAX: Final = 1_048_576
_ROW_BYTES_MAX: Final = KEY_BYTES_MAX + VALUE_BYTES_MAX + 64
_TABLE_NAME_BYTES: Final = 16


class SealedTable:
    """Bytes to bytes, durable on return; safe to use from several threads of one process."""

    def __init__(self, name: str, *, database: Database, key_ring: KeyRing, lock: RLock) -> None:
        self.name = name
        self._database = database
        self._key_ring = key_ring
        self._rows = WrappedRows(database, key_ring)
        self._lock = lock
        self._prefix = TABLE + key_ring.compute_name(b"table", name.encode())[:_TABLE_NAME_BYTES]

    def get(self, key: bytes) -> bytes | None:
        """The value, or None. Raises VaultFailed when the row was altered."""
        row = self._compute_row_key(key)
        wrapped = self._database.get(row)
        return None if wrapped is None else self._open(row, wrapped)[1]

    def put(self, key: bytes, value: bytes) -> None:
        """Set or replace. Raises ContentRefused beyond the bounds of a row."""
        self.put_many({key: value})

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Set or replace all of `rows` in one write."""
        with self._lock:
            self._database.write(puts=[self._seal(key, value) for key, value in rows.items()])

    def put_if_absent(self, key: bytes, value: bytes) -> bool:
        """Set only when there is no row; whether it was set. Of two callers at once exactly one wins."""
        with self._lock:
            row, wrapped = self._seal(key, value)
            if self._database.get(row) is not None:
                return False
            self._database.write(puts=[(row, wrapped)])
            return True

    def delete(self, key: bytes) -> None:
        """Remove the row if there is one; its sealed bytes leave the files with a later compaction."""
        with self._lock:
            self._database.write(deletes=[self._compute_row_key(key)])

    def destroy(self, key: bytes) -> None:
        """Remove the row so that no file holds its bytes any more; slower than `delete`."""
        with self._lock:
            self._database.destroy([self._compute_row_key(key)])

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) whose key begins with `prefix`, in the order of the keys."""
        rows = (self._open(row, wrapped) for row, wrapped in self._database.scan(self._prefix))
        yield from sorted(item for item in rows if item[0].startswith(prefix))

    def _compute_row_key(self, key: bytes) -> bytes:
        if len(key) > KEY_BYTES_MAX:
            raise ContentRefused(
                f"table {self.name}: key of {len(key)} bytes found, at most {KEY_BYTES_MAX} allowed"
            )
        return self._prefix + self._key_ring.compute_name(b"table-key", self.name.encode(), key)

    def _seal(self, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        if len(value) > VALUE_BYTES_MAX:
            raise ContentRefused(
                f"table {self.name}: value of {len(value)} bytes found, at most {VALUE_BYTES_MAX} allowed"
            )
        row = self._compute_row_key(key)
        return row, self._key_ring.wrap(encode((key, value)), compute_index_binding(row))

    def _open(self, row: bytes, wrapped: bytes) -> tuple[bytes, bytes]:
        try:
            value = self._rows.unwrap(row, wrapped, compute_index_binding(row))
            plain = decode(value, size_max=_ROW_BYTES_MAX)
        except (DecryptionError, EncodingError) as error:
            raise VaultFailed(
                f"table {self.name}: a row does not open: it was altered or its key is gone; "
                "restore the vault from a backup"
            ) from error
        match plain:
            case (bytes() as key, bytes() as value):
                return key, value
        raise VaultFailed(f"table {self.name}: a row of another shape found, (key, value) expected")

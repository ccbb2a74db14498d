"""Re-wrapping everything under the current key of the ring.

A row is replaced in one write and names its key, so at any moment, and after a crash at any moment, it opens
under exactly one key. Rows under the current key already are passed over: running again goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from crypto.hazmat.aead import DecryptionError
from vault.envelope import compute_secrets_binding
from vault.errors import Finding, VaultFailed, VaultMismatch
from vault.index import Index
from vault.key_ring import KeyRing
from vault.store import Database
from vault.versions import CANARY, ENTRY, TABLE, compute_index_binding, split_row_id


def rewrap_all(
    *,
    ring: KeyRing,
    index: Index,
    keys: Database,
    index_database: Database,
    holder: bytes,
    rows_per_batch: int,
) -> int:
    """Re-wrap every row that is under an older key; how many there were.

    Raises VaultMismatch or VaultFailed at a row that does not open: dropping its key would lose it for good.
    """

    def compute_key_binding(key: bytes) -> bytes:
        record, version = split_row_id(key)
        stored = index.get(record, version)
        if stored is None:
            raise VaultMismatch(
                Finding.MISSING, record=record, version=version, detail="keys without a row in the index"
            )
        return compute_secrets_binding(stored.leaf, holder)

    count = 0
    for prefix in (ENTRY, TABLE, CANARY):
        count += _rewrap(ring, index_database, prefix, compute_index_binding, rows_per_batch)
    return count + _rewrap(ring, keys, b"", compute_key_binding, rows_per_batch)


def _rewrap(
    ring: KeyRing,
    database: Database,
    prefix: bytes,
    compute_binding: Callable[[bytes], bytes],
    rows_per_batch: int,
) -> int:
    count = 0
    after: bytes | None = None
    while rows := list(database.scan(prefix, after=after, count_max=rows_per_batch)):
        puts = []
        for key, wrapped in rows:
            if ring.is_current(wrapped):
                continue
            binding = compute_binding(key)
            try:
                puts.append((key, ring.wrap(ring.unwrap(wrapped, binding), binding)))
            except DecryptionError as error:
                raise VaultFailed(
                    f"{database.path}: row {key.hex()} cannot be re-wrapped ({error}): both keys stay on the "
                    "ring; restore the row from a backup, or erase the record, and rotate again"
                ) from error
        if puts:
            database.write(puts=puts)
        count += len(puts)
        after = rows[-1][0]
    return count

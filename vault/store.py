"""A LevelDB database of the vault: the one place here that knows plyvel.

Checksums are verified on every read. Any error of the database ends its use: after a failed write LevelDB's
own state is not to be trusted, so every later call raises VaultFailed too and the node stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import plyvel

from vault.errors import VaultFailed

BLOOM_FILTER_BITS = 10


class Database:
    """Ordered bytes to bytes; one process at a time holds it."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises VaultFailed when it is damaged or held by another process."""
        self.path = path
        self._failed = False
        with self._guard("cannot be opened"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db: Any = plyvel.DB(
                str(path),
                create_if_missing=True,
                paranoid_checks=True,
                bloom_filter_bits=BLOOM_FILTER_BITS,
                compression=None,  # Values are ciphertext: there is nothing to be saved.
            )

    def get(self, key: bytes) -> bytes | None:
        with self._guard("cannot be read"):
            value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def scan(
        self, prefix: bytes = b"", *, after: bytes | None = None, count_max: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows under `prefix` in key order, as of the call, from the first key beyond `after` on."""
        with self._guard("cannot be scanned"):
            rows = self._db.iterator(
                start=prefix if after is None else after,
                include_start=after is None,
                stop=compute_prefix_end(prefix),
                verify_checksums=True,
                fill_cache=False,
            )
        try:
            count = 0
            while count_max is None or count < count_max:
                with self._guard("cannot be scanned"):
                    row: tuple[bytes, bytes] | None = next(rows, None)
                if row is None:
                    return
                yield row
                count += 1
        finally:
            rows.close()

    def write(self, *, puts: Sequence[tuple[bytes, bytes]] = (), deletes: Sequence[bytes] = ()) -> None:
        """Apply all or nothing, durable on return; deletes come before puts."""
        with self._guard("cannot be written"), self._db.write_batch(transaction=True, sync=True) as batch:
            for key in deletes:
                batch.delete(key)
            for key, value in puts:
                batch.put(key, value)

    def destroy(self, keys: Sequence[bytes]) -> None:
        """Delete rows so that their bytes leave the files of the database, durable on return.

        A delete alone only hides a row. The first compaction takes it out of the log into a table, the
        second rewrites that table without it; in one go LevelDB could put row and mark into one table on
        its lowest level and leave both there.
        """
        if not keys:
            return
        first, last = min(keys), max(keys) + b"\x00"
        with self._guard("cannot be compacted"):
            self._db.compact_range(start=first, stop=last)
        self.write(deletes=keys)
        with self._guard("cannot be compacted"):
            self._db.compact_range(start=first, stop=last)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        if self._failed:
            raise VaultFailed(f"{self.path}: failed before and is not used again: restart the node")
        try:
            yield
        except (plyvel.Error, OSError, RuntimeError) as error:
            self._failed = True
            raise VaultFailed(f"{self.path}: {what}: {error}") from error


def compute_prefix_end(prefix: bytes) -> bytes | None:
    """The first key beyond every key that begins with `prefix`; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None

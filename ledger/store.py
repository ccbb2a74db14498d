"""LevelDB, the only database of the ledger, behind a handle that dies at the first fault.

Invariant: what one `write` was given is either all durable or not there at all, and after any error the
handle refuses everything. LevelDB itself would go on: after one ENOSPC it acknowledges further synced puts
and loses them. So an error here ends the process; the directory is intact and opens again, and missing
blocks come from peers. `repair` is never called: it drops what it cannot read and says nothing (rules P7,
P8). Checksums are verified on every read for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import plyvel

from ledger.errors import StoreFailed, StoreInUse
from ledger.settings import StoreSettings

BLOOM_FILTER_BITS: Final = 10
"""Bits per key: a look-up of an absent key costs 4 microseconds instead of 18."""

_FAULTS: Final = (plyvel.Error, OSError)


class Rows(Protocol):
    """Rows as of one moment."""

    def get(self, key: bytes) -> bytes | None:
        """The row, or None. Raises StoreFailed."""

    def scan(
        self, prefix: bytes, *, start: bytes = b"", is_reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix`, from `prefix + start` on, and their rows in key order.

        In reverse order: from the last such key that is not above `prefix + start` downwards.
        """


class Store:
    """The open database of one node."""

    def __init__(self, database: Any, directory: Path) -> None:
        """`database` has plyvel's methods; use `open` outside of tests."""
        self._database = database
        self._directory = directory
        self._failure: str | None = None

    @classmethod
    def open(cls, directory: Path, settings: StoreSettings) -> Store:
        """Open or create the database. Raises StoreFailed when it is damaged or in use."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            database = plyvel.DB(
                str(directory),
                create_if_missing=True,
                paranoid_checks=True,
                bloom_filter_bits=BLOOM_FILTER_BITS,
                write_buffer_size=settings.write_buffer_bytes,
                lru_cache_size=settings.block_cache_bytes,
                max_open_files=settings.open_files_max,
            )
        except _FAULTS as error:
            if "lock" in str(error):
                raise StoreInUse(
                    f"ledger database {directory} does not open: another process holds it; "
                    "leave it where it is, and stop that process first if this node is to run instead"
                ) from error
            raise StoreFailed(
                f"ledger database {directory} does not open: {error}; if it is damaged, move it away and let "
                "the node fetch the ledger from its peers"
            ) from error
        return cls(database, directory)

    def get(self, key: bytes) -> bytes | None:
        """The newest row. Raises StoreFailed."""
        self._check_alive()
        try:
            row: bytes | None = self._database.get(key, verify_checksums=True)
        except _FAULTS as error:
            self.fail(error)
        return row

    def write(
        self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, is_synced: bool = True
    ) -> None:
        """One atomic batch; once it returns and `is_synced`, it survives a power cut. Raises StoreFailed."""
        self._check_alive()
        try:
            batch = self._database.write_batch(sync=is_synced)
            put = batch.put
            for key, row in puts:
                put(key, row)
            for key in deletes:
                batch.delete(key)
            batch.write()
        except _FAULTS as error:
            self.fail(error)

    def compact(self, prefix: bytes) -> None:
        """Give back the room of deleted and replaced rows whose keys begin with `prefix`. Raises StoreFailed.

        Takes as long as it does to write these rows anew; reading and writing go on beside it.
        """
        self._check_alive()
        try:
            self._database.compact_range(start=prefix, stop=_compute_next_prefix(prefix))
        except _FAULTS as error:
            self.fail(error)

    def snapshot(self) -> Snapshot:
        """The rows as they are now, unmoved by later writes; costs nothing. Raises StoreFailed."""
        self._check_alive()
        try:
            return Snapshot(self, self._database.snapshot())
        except _FAULTS as error:
            self.fail(error)

    def close(self) -> None:
        """Release the directory; reading or writing afterwards raises StoreFailed."""
        if self._failure is None:
            self._failure = "it was closed"
        self._database.close()

    def fail(self, error: BaseException) -> NoReturn:
        """Remember the first fault for good. Raises StoreFailed."""
        if self._failure is None:
            self._failure = f"{type(error).__name__}: {error}"
        raise StoreFailed(
            f"ledger database {self._directory} failed ({self._failure}); {_find_remedy(error)}"
        ) from error

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise StoreFailed(
                f"ledger database {self._directory} is not used any more ({self._failure}): restart the node"
            )


class Snapshot:
    """Rows as of the moment it was taken."""

    def __init__(self, store: Store, snapshot: Any) -> None:
        self._store = store
        self._snapshot = snapshot

    def get(self, key: bytes) -> bytes | None:
        store = self._store
        if store._failure is not None:
            store._check_alive()
        try:
            row: bytes | None = self._snapshot.get(key, verify_checksums=True)
        except _FAULTS as error:
            store.fail(error)
        return row

    def scan(
        self, prefix: bytes, *, start: bytes = b"", is_reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        bound = prefix + start
        limits: dict[str, Any]
        if is_reverse:
            limits = {"start": prefix, "stop": bound, "include_stop": True} if start else {"prefix": prefix}
        else:
            limits = {"start": bound, "stop": _compute_next_prefix(prefix)}
        self._store._check_alive()
        try:
            rows = self._snapshot.iterator(verify_checksums=True, reverse=is_reverse, **limits)
            for key, row in rows:
                yield key, row
                self._store._check_alive()
        except _FAULTS as error:
            self._store.fail(error)


def _find_remedy(error: BaseException) -> str:
    if isinstance(error, plyvel.CorruptionError):
        # What was altered on disk stays so: the same start would fail the same way.
        return "stop the node, move the database away, start it again: it fetches the ledger from its peers"
    return "stop the node, see to the disk, start it again"


def _compute_next_prefix(prefix: bytes) -> bytes | None:
    """The first key after all that begin with `prefix`; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None

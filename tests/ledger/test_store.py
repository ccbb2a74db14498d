"""The store: a damaged or failing disk is noticed, and noticed for good (rules P7, P8)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import StoreFailed
from ledger.settings import StoreSettings
from ledger.store import Snapshot, Store

ROWS = {b"k%04d" % number: os.urandom(100) for number in range(400)}


def fill(directory: Path) -> None:
    """Some rows in table files and some in the log."""
    store = Store.open(directory, StoreSettings(write_buffer_bytes=65_536))
    rows = list(ROWS.items())
    for start in range(0, len(rows), 20):
        store.write(rows[start : start + 20])
    store.close()
    # Opening again writes the log out to a table file; the second half of the rows goes to a fresh log.
    store = Store.open(directory, StoreSettings())
    store.write([(b"l" + key, row) for key, row in rows])
    store.close()


EXPECTED = ROWS | {b"l" + key: row for key, row in ROWS.items()}

READINGS: dict[str, Callable[[Store], dict[bytes, bytes | None]]] = {
    "get": lambda store: {key: store.get(key) for key in EXPECTED},
    "snapshot get": lambda store: _get_all(store.snapshot()),
    "scan": lambda store: dict(store.snapshot().scan(b"")),
    "reverse scan": lambda store: dict(
        row for prefix in (b"k", b"l") for row in store.snapshot().scan(prefix, is_reverse=True)
    ),
}
"""Every way to read; each must notice damage by itself."""


def _get_all(snapshot: Snapshot) -> dict[bytes, bytes | None]:
    return {key: snapshot.get(key) for key in EXPECTED}


def read_all(directory: Path, reading: str) -> None:
    """Every row as it was written. Raises StoreFailed when one cannot be had so."""
    store = Store.open(directory, StoreSettings())
    try:
        found = READINGS[reading](store)
    finally:
        store.close()
    assert found == EXPECTED, "rows changed or vanished without an error"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(tmp_path / "db")
    return tmp_path / "db"


def test_rows_come_back_in_key_order_and_by_prefix(directory: Path) -> None:
    store = Store.open(directory, StoreSettings())
    snapshot = store.snapshot()
    assert [key for key, _ in snapshot.scan(b"k000")] == [b"k%04d" % number for number in range(10)]
    assert [key for key, _ in snapshot.scan(b"k00", start=b"95")] == [b"k%04d" % n for n in range(95, 100)]
    assert next(snapshot.scan(b"k", start=b"0005x", is_reverse=True))[0] == b"k0005"
    assert next(snapshot.scan(b"k", is_reverse=True))[0] == b"k0399"
    assert list(snapshot.scan(b"absent")) == []
    store.close()


def test_a_snapshot_does_not_move_with_later_writes(directory: Path) -> None:
    store = Store.open(directory, StoreSettings())
    before = store.snapshot()
    store.write([(b"new", b"row")], [b"k0000"])
    assert before.get(b"new") is None
    assert before.get(b"k0000") == ROWS[b"k0000"]
    assert store.snapshot().get(b"new") == b"row"
    assert store.snapshot().get(b"k0000") is None
    store.close()


def flip_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << at % 8
    path.write_bytes(data)


def flips() -> Iterator[tuple[str, float]]:
    for suffix in (".ldb", ".log"):
        for step in range(12):
            yield suffix, step / 12
    yield "MANIFEST-", 0.5


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(("suffix", "place"), list(flips()))
def test_P8_a_flipped_bit_is_an_error_and_never_a_missing_row(
    directory: Path, suffix: str, place: float, reading: str
) -> None:
    path = max(directory.glob(f"*{suffix}*"), key=lambda found: found.stat().st_size)
    flip_bit(path, int(path.stat().st_size * place) + 9)
    with pytest.raises(StoreFailed) as failed:
        read_all(directory, reading)
    assert "move" in str(failed.value), "what was altered on disk is not mended by starting again"
    assert "from its peers" in str(failed.value)


@pytest.mark.soak
@pytest.mark.parametrize("reading", READINGS)
def test_P8_wherever_a_bit_flips_all_rows_are_as_they_were_or_reading_fails(
    directory: Path, tmp_path: Path, reading: str
) -> None:
    refused = 0
    for path in sorted(directory.iterdir()):
        for at in range(0, path.stat().st_size, 61):
            damaged = tmp_path / "damaged"
            shutil.copytree(directory, damaged)
            flip_bit(damaged / path.name, at)
            try:
                read_all(damaged, reading)
            except StoreFailed:
                refused += 1
            shutil.rmtree(damaged)
    assert refused > 1_000


@pytest.mark.parametrize("reading", READINGS)
def test_P8_undamaged_rows_are_read_back_whole(directory: Path, reading: str) -> None:
    read_all(directory, reading)


class FailingDatabase:
    """Fails one operation once, and would then go on as if nothing had been."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.calls = 0

    def _act(self, operation: str) -> None:
        self.calls += 1
        if operation == self.operation:
            self.operation = ""
            raise OSError(28, "no space left on device")

    def get(self, key: bytes, *, verify_checksums: bool) -> bytes:
        assert verify_checksums
        self._act("get")
        return b"row"

    def write_batch(self, *, sync: bool) -> Any:
        assert sync
        database = self

        class Batch:
            def put(self, key: bytes, row: bytes) -> None: ...
            def delete(self, key: bytes) -> None: ...
            def write(self) -> None:
                database._act("write")

        return Batch()

    def snapshot(self) -> Any:
        self._act("snapshot")
        return self

    def iterator(self, *, verify_checksums: bool, **limits: Any) -> Iterator[tuple[bytes, bytes]]:
        assert verify_checksums
        self._act("iterator")
        yield b"key", b"row"

    def close(self) -> None: ...


@pytest.mark.parametrize("operation", ["get", "write", "snapshot", "iterator"])
def test_P7_after_the_first_error_the_handle_is_never_used_again(operation: str) -> None:
    database = FailingDatabase("")
    store = Store(database, Path("somewhere"))
    snapshot = store.snapshot()
    database.operation = operation
    actions: dict[str, Callable[[], object]] = {
        "get": lambda: store.get(b"key"),
        "write": lambda: store.write([(b"key", b"row")]),
        "snapshot": store.snapshot,
        "iterator": lambda: list(snapshot.scan(b"key")),
        "snapshot get": lambda: snapshot.get(b"key"),
    }
    with pytest.raises(StoreFailed, match="no space left"):
        actions[operation]()
    calls = database.calls
    for action in actions.values():
        with pytest.raises(StoreFailed, match="restart the node"):
            action()
    assert database.calls == calls


def test_P7_a_scan_under_way_ends_when_the_handle_dies() -> None:
    database = FailingDatabase("")
    store = Store(database, Path("somewhere"))
    rows = store.snapshot().scan(b"key")
    next(rows)
    database.operation = "write"
    with pytest.raises(StoreFailed):
        store.write([(b"key", b"row")])
    with pytest.raises(StoreFailed):
        next(rows)


def test_a_directory_in_use_is_refused_with_the_reason(directory: Path) -> None:
    store = Store.open(directory, StoreSettings())
    with pytest.raises(StoreFailed, match="another process holds it"):
        Store.open(directory, StoreSettings())
    store.close()


def test_a_closed_store_is_not_read(directory: Path) -> None:
    store = Store.open(directory, StoreSettings())
    store.close()
    with pytest.raises(StoreFailed, match="closed"):
        store.get(b"k0000")

"""What must be on the disk before what: the calls that make it so, in their order.

A missing sync loses nothing in a test that merely stops a process; so the calls themselves are watched.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plyvel
import pytest

from vault.blobs import FileBlobStore
from vault.store import Database

LOCATORS = (bytes.fromhex("aa01" + "00" * 14), bytes.fromhex("bb02" + "00" * 14))


class Calls:
    """System calls on files, as (name, path) in the order in which they returned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.seen: list[tuple[str, str]] = []
        self._root = root
        self._monkeypatch = monkeypatch
        self._watch("fsync", lambda descriptor: self._name(descriptor))
        self._watch("rename", lambda _, target, *, dst_dir_fd, **__: f"{self._name(dst_dir_fd)}/{target}")
        self._watch("unlink", lambda name, *, dir_fd: f"{self._name(dir_fd)}/{name}")
        self._watch("mkdir", lambda name, *_, dir_fd: f"{self._name(dir_fd)}/{name}")

    def _watch(self, name: str, describe: Callable[..., str]) -> None:
        call = getattr(os, name)

        def watched(*arguments: Any, **more: Any) -> Any:
            path = describe(*arguments, **more)
            answer = call(*arguments, **more)
            self.seen.append((name, path))
            return answer

        self._monkeypatch.setattr(f"vault.blobs.os.{name}", watched)

    def _name(self, descriptor: int) -> str:
        return os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), self._root)

    def find(self, name: str, path: str) -> int:
        """Where this call stands; it was made exactly once."""
        assert self.seen.count((name, path)) == 1, (name, path, self.seen)
        return self.seen.index((name, path))

    def has_after(self, index: int, name: str, path: str) -> bool:
        return (name, path) in self.seen[index + 1 :]


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs")


def test_a_blob_is_synced_before_it_is_renamed_and_its_folders_after(
    blobs: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, blobs.directory)
    blobs.put_many([(locator, b"sealed") for locator in LOCATORS])
    for locator in LOCATORS:
        name = locator.hex()
        folder = f"{name[:2]}/{name[2:4]}"
        synced, renamed = calls.find("fsync", f"incoming/{name}"), calls.find("rename", f"{folder}/{name}")
        assert synced < renamed, "a name must not appear before the bytes are durable"
        assert calls.has_after(renamed, "fsync", folder), "nor be lost once the call returned"
        assert calls.has_after(calls.find("mkdir", f"./{name[:2]}"), "fsync", ".")
        assert calls.has_after(calls.find("mkdir", f"{name[:2]}/{name[2:4]}"), "fsync", name[:2])


def test_a_deleted_blob_is_gone_for_good_before_the_call_returns(
    blobs: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put_many([(locator, b"sealed") for locator in LOCATORS])
    calls = Calls(monkeypatch, blobs.directory)
    blobs.delete_many(LOCATORS)
    for locator in LOCATORS:
        name = locator.hex()
        folder = f"{name[:2]}/{name[2:4]}"
        assert calls.has_after(calls.find("unlink", f"{folder}/{name}"), "fsync", folder)


class WatchedDatabase:
    """LevelDB, noting how each batch is written and when the files are rewritten."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.seen: list[object] = []

    def write_batch(self, **options: Any) -> Any:
        self.seen.append(options)
        return self._database.write_batch(**options)

    def compact_range(self, **limits: Any) -> None:
        self.seen.append("compacted")
        self._database.compact_range(**limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Database, WatchedDatabase]:
    opened: list[WatchedDatabase] = []
    real = plyvel.DB

    def open_watched(*arguments: Any, **options: Any) -> WatchedDatabase:
        opened.append(WatchedDatabase(real(*arguments, **options)))
        return opened[-1]

    monkeypatch.setattr("vault.store.plyvel.DB", open_watched)
    database = Database(tmp_path / "rows")
    return database, opened[0]


def test_rows_are_written_in_one_synced_batch(watched: tuple[Database, WatchedDatabase]) -> None:
    database, calls = watched
    database.write(puts=[(b"a", b"1"), (b"b", b"2")], deletes=[b"c"])
    assert calls.seen == [{"transaction": True, "sync": True}]
    database.close()


def test_destroyed_rows_are_taken_out_of_the_files_after_a_synced_delete(
    watched: tuple[Database, WatchedDatabase],
) -> None:
    database, calls = watched
    database.write(puts=[(b"a", b"1")])
    calls.seen.clear()
    database.destroy([b"a"])
    assert calls.seen == ["compacted", {"transaction": True, "sync": True}, "compacted"]
    database.close()

"""Blobs as files: whole or not at all, and nothing outside their folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from vault.blobs import BlobMissing, BlobUnusable, FileBlobStore
from vault.errors import VaultFailed


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[FileBlobStore]:
    store = FileBlobStore(tmp_path / "blobs")
    yield store
    store.close()


def put(blobs: FileBlobStore, content: bytes = b"sealed") -> bytes:
    locator = secrets.token_bytes(16)
    blobs.put_many([(locator, content)])
    return locator


def test_a_blob_comes_back_from_two_levels_of_folders(blobs: FileBlobStore) -> None:
    locator = put(blobs)
    name = locator.hex()
    assert blobs.get(locator, size=6) == b"sealed"
    assert blobs.get_path(locator).relative_to(blobs.directory) == Path(name[:2], name[2:4], name)


def test_an_absent_blob_is_missing(blobs: FileBlobStore) -> None:
    with pytest.raises(BlobMissing):
        blobs.get(b"\x01" * 16, size=6)


def test_a_deleted_blob_is_gone_and_deleting_again_is_no_error(blobs: FileBlobStore) -> None:
    locator = put(blobs)
    blobs.delete_many([locator])
    blobs.delete_many([locator])
    with pytest.raises(BlobMissing):
        blobs.get(locator, size=6)


@pytest.mark.parametrize("locator", [b"", b"../../../../etc/", b"x" * 15, b"x" * 17, b"/etc/passwd"])
def test_no_locator_leads_out_of_the_folder(blobs: FileBlobStore, locator: bytes) -> None:
    if len(locator) == 16:
        assert blobs.get_path(locator).resolve().is_relative_to(blobs.directory.resolve())
        return
    with pytest.raises(ValueError, match="16 expected"):
        blobs.get_path(locator)


@pytest.mark.parametrize("size", [5, 7])
def test_a_blob_of_another_size_is_unusable(blobs: FileBlobStore, size: int) -> None:
    locator = put(blobs)
    with pytest.raises(BlobUnusable, match=f"{size} expected"):
        blobs.get(locator, size=size)


def test_a_link_in_place_of_a_blob_is_not_followed(blobs: FileBlobStore, tmp_path: Path) -> None:
    locator = put(blobs)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"secret")
    blobs.get_path(locator).unlink()
    blobs.get_path(locator).symlink_to(elsewhere)
    with pytest.raises(BlobUnusable):
        blobs.get(locator, size=6)
    blobs.delete_many([locator])
    assert elsewhere.read_bytes() == b"secret"


def test_a_link_in_place_of_a_folder_is_not_followed(blobs: FileBlobStore, tmp_path: Path) -> None:
    locator = put(blobs)
    folder = blobs.get_path(locator).parent
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with pytest.raises(BlobUnusable):
        blobs.get(locator, size=6)
    with pytest.raises(VaultFailed):
        blobs.delete_many([locator])
    with pytest.raises(VaultFailed):
        blobs.put_many([(locator[:2] + bytes(14), b"sealed")])
    assert (elsewhere / locator.hex()).read_bytes() == b"sealed"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_unusable_and_does_not_hang(blobs: FileBlobStore, kind: str) -> None:
    locator = put(blobs)
    path = blobs.get_path(locator)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(BlobUnusable):
        blobs.get(locator, size=6)


def test_half_written_blobs_are_dropped_on_opening(blobs: FileBlobStore) -> None:
    (blobs.directory / "incoming" / ("0" * 32)).write_bytes(b"half")
    FileBlobStore(blobs.directory).close()
    assert list((blobs.directory / "incoming").iterdir()) == []


def test_blobs_are_readable_by_their_owner_only(blobs: FileBlobStore) -> None:
    path = blobs.get_path(put(blobs))
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_full_disk_fails_the_vault_for_good(blobs: FileBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = put(blobs)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vault.blobs.os.fsync", refuse)
        with pytest.raises(VaultFailed, match="No space left"):
            put(blobs)
    for use in (lambda: put(blobs), lambda: blobs.get(kept, size=6), lambda: blobs.delete_many([kept])):
        with pytest.raises(VaultFailed, match="failed before"):
            use()

"""Where sealed bytes lie: files in two levels of folders.

A locator is 16 random bytes; the path is made of its hexadecimal digits alone, so no input can leave the
folder, and links are never followed. A blob is written to a temporary file, synced, renamed into place, and
its folder synced: it is there whole or not at all. Contents are somebody else's to authenticate.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vault.errors import VaultFailed

LOCATOR_BYTES: Final = 16
_TEMPORARY: Final = "incoming"


class BlobMissing(Exception):
    """No blob under this locator."""


class BlobUnusable(Exception):
    """What lies under this locator is no file of the expected size: somebody put it there."""


class FileBlobStore:
    """Sealed bytes by locator, as files of one folder. A failing disk is VaultFailed everywhere."""

    def __init__(self, directory: Path) -> None:
        """Open or create, and drop what a crash left half written. Raises VaultFailed."""
        self.directory = directory
        self._failed = False
        with self._guard("cannot be opened"):
            (directory / _TEMPORARY).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            self._incoming = os.open(
                _TEMPORARY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root
            )
            for name in os.listdir(self._incoming):  # noqa: PTH208 - a descriptor, so no link is followed
                os.unlink(name, dir_fd=self._incoming)

    def get_path(self, locator: bytes) -> Path:
        """Where the blob lies. Raises ValueError for anything but 16 bytes."""
        first, second, name = _split(locator)
        return self.directory / first / second / name

    def put_many(self, blobs: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep each (locator, sealed bytes), all durable on return; a locator is never used twice."""
        with self._guard("blob cannot be written"):
            for locator, sealed in blobs:
                self._write_incoming(locator.hex(), sealed)
            folders: set[tuple[str, str]] = set()
            for locator, _ in blobs:
                first, second, name = _split(locator)
                with self._folder(first, second, create=True) as folder:
                    os.rename(name, name, src_dir_fd=self._incoming, dst_dir_fd=folder)
                folders.add((first, second))
            self._sync_folders(folders)

    def get(self, locator: bytes, *, size: int) -> bytes:
        """The blob of `size` bytes. Raises BlobMissing or BlobUnusable."""
        first, second, name = _split(locator)
        try:
            with (
                self._guard("blob cannot be read", passes=_PLANTED),
                self._folder(first, second) as folder,
            ):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    found = os.fstat(descriptor)
                    if not stat.S_ISREG(found.st_mode):
                        raise BlobUnusable(f"blob {name}: not a regular file")
                    if found.st_size != size:
                        raise BlobUnusable(f"blob {name}: {found.st_size} bytes found, {size} expected")
                    return file.read(size)
        except FileNotFoundError:
            raise BlobMissing(f"blob {name}: no file found") from None
        except OSError as error:
            raise BlobUnusable(f"blob {name}: {error.strerror}: a link or a folder in its place") from error

    def delete_many(self, locators: Sequence[bytes]) -> None:
        """Forget the blobs, durable on return; what is absent already is no error."""
        folders: set[tuple[str, str]] = set()
        for locator in locators:
            first, second, name = _split(locator)
            try:
                with (
                    self._guard("blob cannot be removed", passes=_PLANTED),
                    self._folder(first, second) as folder,
                ):
                    os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise VaultFailed(
                    f"{self.get_path(locator)}: cannot be removed: {error.strerror}; remove it by hand"
                ) from error
            folders.add((first, second))
        with self._guard("folder cannot be synced"):
            self._sync_folders(folders)

    def close(self) -> None:
        """Let go of the folders; closing twice is no error, using it afterwards is one."""
        descriptors, self._incoming, self._root = (self._incoming, self._root), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def _write_incoming(self, name: str, sealed: bytes) -> None:
        descriptor = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._incoming
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(descriptor)

    @contextmanager
    def _folder(self, first: str, second: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the blob's folder, reached without following any link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        opened = [self._root]
        try:
            for name in (first, second):
                if create:
                    try:
                        os.mkdir(name, 0o700, dir_fd=opened[-1])
                        os.fsync(opened[-1])
                    except FileExistsError:
                        pass
                opened.append(os.open(name, flags, dir_fd=opened[-1]))
            yield opened[-1]
        finally:
            for descriptor in opened[1:]:
                os.close(descriptor)

    @contextmanager
    def _guard(self, what: str, *, passes: frozenset[int] = frozenset()) -> Iterator[None]:
        """Turn errors of the disk into VaultFailed, then and from then on, save those in `passes`."""
        if self._failed:
            raise VaultFailed(f"{self.directory}: failed before and is not used again: restart the node")
        try:
            yield
        except OSError as error:
            if error.errno in passes:
                raise
            self._failed = True
            raise VaultFailed(f"{self.directory}: {what}: {error.strerror}") from error

    def _sync_folders(self, folders: set[tuple[str, str]]) -> None:
        for first, second in sorted(folders):
            with self._folder(first, second) as folder:
                os.fsync(folder)


def _split(locator: bytes) -> tuple[str, str, str]:
    if len(locator) != LOCATOR_BYTES:
        raise ValueError(f"locator of {len(locator)} bytes found, {LOCATOR_BYTES} expected")
    name = locator.hex()
    return name[:2], name[2:4], name


_PLANTED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
"""Errors that tell of what lies under a locator, not of a failing disk."""

"""The index: what the vault holds, found by record, by alias, by content, and what is under way.

It knows rows and names, not blobs and not what opens them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from contracts.calls.evidence import Inclusion, RecordLeaf
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hazmat.aead import DecryptionError
from vault.errors import Finding, VaultMismatch
from vault.key_ring import KeyRing
from vault.store import Database
from vault.versions import (
    BY_ALIAS,
    BY_CONTENT,
    ENTRY,
    ENTRY_BYTES_MAX,
    ERASED,
    ERASING,
    STORING,
    TOMBSTONE,
    UNANCHORED,
    StoredVersion,
    VersionEntry,
    compute_index_binding,
    compute_row_id,
    split_row_id,
)
from vault.wrapped_rows import WrappedRows

_FORMAT_VERSION = 1


class Index:
    """Rows of the index database; callers hold the vault's lock while they write."""

    def __init__(self, database: Database, key_ring: KeyRing) -> None:
        self._database = database
        self._ring = key_ring
        self._rows = WrappedRows(database, key_ring)

    def compute_content_name(self, alias: bytes, content_digest: bytes) -> bytes:
        """Keyed name of content under an alias: recognises bytes again without keeping their digest."""
        return self._ring.compute_name(b"content", alias, content_digest)

    # Storing

    def write_intents(self, leaves: Sequence[RecordLeaf]) -> None:
        self._database.write(
            puts=[(STORING + compute_row_id(leaf.record, leaf.version), leaf.locator) for leaf in leaves]
        )

    def write_entries(self, stored: Sequence[tuple[StoredVersion, bytes]]) -> None:
        """List the versions, each with its content's name, and drop their intents."""
        puts = []
        deletes = []
        for version, content_name in stored:
            row_id = compute_row_id(version.record, version.version)
            puts += [
                self._seal(version, content_name),
                (self._compute_alias_prefix(version.alias) + row_id, b""),
                (UNANCHORED + row_id, b""),
                (BY_CONTENT + content_name, row_id),
            ]
            deletes.append(STORING + row_id)
        self._database.write(puts=puts, deletes=deletes)

    def list_intents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Row id and locator of every store that did not come to its end."""
        return tuple((key[len(STORING) :], locator) for key, locator in self._database.scan(STORING))

    def drop_intent(self, row_id: bytes) -> None:
        self._database.write(deletes=[STORING + row_id])

    def set_anchor(
        self, versions: Sequence[StoredVersion], anchor: bytes, inclusions: Sequence[Inclusion]
    ) -> tuple[StoredVersion, ...]:
        puts = []
        deletes = []
        changed = []
        for version, inclusion in zip(versions, inclusions, strict=True):
            row_id = compute_row_id(version.record, version.version)
            entry = self._open(ENTRY + row_id)
            if entry is None:
                continue
            anchored = _to_stored(entry, anchor=anchor, inclusion=inclusion)
            puts.append(self._seal(anchored, entry.content_name))
            deletes.append(UNANCHORED + row_id)
            changed.append(anchored)
        self._database.write(puts=puts, deletes=deletes)
        return tuple(changed)

    # Finding

    def get(self, record: bytes, version: int) -> StoredVersion | None:
        """The version, or None. Raises VaultMismatch when its row was altered."""
        entry = self._open(ENTRY + compute_row_id(record, version))
        return None if entry is None else _to_stored(entry)

    def list_row_ids(self, record: bytes) -> tuple[bytes, ...]:
        """Row ids of the versions of a record, in order."""
        return tuple(key[len(ENTRY) :] for key, _ in self._database.scan(ENTRY + record))

    def list_locators(self, record: bytes) -> tuple[bytes, ...]:
        return tuple(entry.leaf.locator for entry in self._open_readable(record))

    def list_by_alias(self, alias: bytes) -> tuple[StoredVersion, ...]:
        prefix = self._compute_alias_prefix(alias)
        return self._get_all(key[len(prefix) :] for key, _ in self._database.scan(prefix))

    def list_unanchored(self, count_max: int) -> tuple[StoredVersion, ...]:
        rows = self._database.scan(UNANCHORED, count_max=count_max)
        return self._get_all(key[len(UNANCHORED) :] for key, _ in rows)

    def find_content(self, content_name: bytes) -> bytes | None:
        """The row id of the version with this content, or None."""
        return self._database.get(BY_CONTENT + content_name)

    def is_tombstone(self, content_name: bytes) -> bool:
        return self._database.get(TOMBSTONE + content_name) is not None

    # Erasing

    def is_erased(self, record: bytes) -> bool:
        """Erased, or being erased."""
        return any(self._database.get(mark + record) is not None for mark in (ERASED, ERASING))

    def begin_erasure(self, record: bytes) -> None:
        """From now on the record counts as erased, and its content as unwelcome."""
        stones = [(TOMBSTONE + entry.content_name, b"") for entry in self._open_readable(record)]
        self._database.write(puts=[(ERASING + record, b""), *stones])

    def list_erasures(self) -> tuple[bytes, ...]:
        """Records whose erasure was begun and did not come to its end."""
        return tuple(key[len(ERASING) :] for key, _ in self._database.scan(ERASING))

    def finish_erasure(self, record: bytes) -> None:
        row_ids = self.list_row_ids(record)
        deletes = [UNANCHORED + row_id for row_id in row_ids]
        for entry in self._open_readable(record):
            row_id = compute_row_id(entry.leaf.record, entry.leaf.version)
            deletes.append(self._compute_alias_prefix(entry.alias) + row_id)
            deletes.append(BY_CONTENT + entry.content_name)
        self._database.write(deletes=deletes)
        # The entries go last: as long as they stand, a second run finds what the first did not remove.
        self._database.destroy([ENTRY + row_id for row_id in row_ids])
        self._database.write(puts=[(ERASED + record, b"")], deletes=[ERASING + record])

    # Inside

    def _compute_alias_prefix(self, alias: bytes) -> bytes:
        return BY_ALIAS + self._ring.compute_name(b"alias", alias)

    def _open_readable(self, record: bytes) -> tuple[VersionEntry, ...]:
        """The entries of a record that open: an altered row must not keep its record from being erased."""
        entries = []
        for row_id in self.list_row_ids(record):
            with suppress(VaultMismatch):
                entries.append(self._open(ENTRY + row_id))
        return tuple(entry for entry in entries if entry is not None)

    def _get_all(self, row_ids: Iterator[bytes]) -> tuple[StoredVersion, ...]:
        entries = (self._open(ENTRY + row_id) for row_id in row_ids)
        return tuple(_to_stored(entry) for entry in entries if entry is not None)

    def _seal(self, stored: StoredVersion, content_name: bytes) -> tuple[bytes, bytes]:
        entry = VersionEntry(
            format_version=_FORMAT_VERSION,
            alias=stored.alias,
            record_class=stored.record_class,
            media_type=stored.media_type,
            source=stored.source,
            title=stored.title,
            leaf=stored.leaf,
            size_bytes=stored.size_bytes,
            content_name=content_name,
            anchor=stored.anchor or b"",
            inclusion=stored.inclusion,
        )
        key = ENTRY + compute_row_id(stored.record, stored.version)
        return key, self._ring.wrap(encode(entry), compute_index_binding(key))

    def _open(self, key: bytes) -> VersionEntry | None:
        record, version = split_row_id(key[len(ENTRY) :])
        try:
            plain = self._rows.get(key, compute_index_binding(key))
            if plain is None:
                return None
            entry = decode_as(VersionEntry, plain, size_max=ENTRY_BYTES_MAX)
        except (DecryptionError, EncodingError) as error:
            raise VaultMismatch(
                Finding.CIPHERTEXT_ALTERED,
                record=record,
                version=version,
                detail=f"its row of the index does not open: {error}",
            ) from error
        if entry.format_version != _FORMAT_VERSION or (entry.leaf.record, entry.leaf.version) != (
            record,
            version,
        ):
            raise VaultMismatch(
                Finding.CIPHERTEXT_ALTERED, record=record, version=version, detail="row of another version"
            )
        return entry


def _to_stored(
    entry: VersionEntry, *, anchor: bytes | None = None, inclusion: Inclusion | None = None
) -> StoredVersion:
    return StoredVersion(
        alias=entry.alias,
        record_class=entry.record_class,
        media_type=entry.media_type,
        source=entry.source,
        title=entry.title,
        leaf=entry.leaf,
        size_bytes=entry.size_bytes,
        anchor=anchor or entry.anchor or None,
        inclusion=inclusion or entry.inclusion,
    )

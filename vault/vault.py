"""The vault's front: store, read, list, anchor, erase, rotate.

Three places make it up: blobs (sealed originals), `keys` (salts and data keys, wrapped; erasing happens
there) and `index` (what is held, wrapped). A record that is listed has its blob and its secrets: an intent
is written before the first of them and removed with the last, and opening the vault undoes a store and
completes an erasure that a crash cut short. One process holds a vault; within it any thread may read while
one writes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import RLock

from contracts.calls.evidence import Inclusion, RecordLeaf
from crypto.hashing import compute_digest
from crypto.hazmat.aead import DecryptionError
from vault.blobs import BlobMissing, BlobUnusable, FileBlobStore
from vault.envelope import (
    BLOB_OVERHEAD_BYTES,
    IDENTIFIER_BYTES,
    Envelope,
    EnvelopeMismatch,
    Secrets,
    compute_secrets_binding,
    open_version,
    seal_version,
)
from vault.errors import (
    Finding,
    KeyRingError,
    RecordErased,
    RecordNotHeld,
    VaultMismatch,
    VersionRefused,
)
from vault.index import Index
from vault.intake import check_batch
from vault.key_ring import KeyRing
from vault.rotation import rewrap_all
from vault.sealed_table import SealedTable
from vault.settings import VaultSettings
from vault.store import Database
from vault.versions import (
    CANARY,
    VERSION_BYTES,
    NewVersion,
    OpenedVersion,
    StoredVersion,
    compute_index_binding,
    compute_row_id,
    split_row_id,
)
from vault.wrapped_rows import WrappedRows

__all__ = ["NewVersion", "OpenedVersion", "StoredVersion", "Vault"]


class Vault:
    """One institution's vault, open."""

    def __init__(
        self,
        *,
        holder: bytes,
        key_ring: KeyRing,
        settings: VaultSettings,
        blobs: FileBlobStore,
        keys: Database,
        index_database: Database,
    ) -> None:
        self.holder = holder
        self.settings = settings
        self._ring = key_ring
        self._blobs = blobs
        self._keys = keys
        self._index_database = index_database
        self._secrets = WrappedRows(keys, key_ring)
        self._index = Index(index_database, key_ring)
        self._lock = RLock()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        holder: bytes,
        key_ring: KeyRing,
        settings: VaultSettings | None = None,
    ) -> Vault:
        """Open or create the vault in `directory` for the institution `holder` (16 bytes).

        Raises KeyRingError when it was sealed under another ring or for another holder, VaultFailed when it
        is damaged or held by another process.
        """
        if len(holder) != IDENTIFIER_BYTES:
            raise ValueError(f"holder of {len(holder)} bytes found, {IDENTIFIER_BYTES} expected")
        with ExitStack() as opened:
            index_database = Database(directory / "index")
            opened.callback(index_database.close)
            keys = Database(directory / "keys")
            opened.callback(keys.close)
            blobs = FileBlobStore(directory / "blobs")
            opened.callback(blobs.close)
            vault = cls(
                holder=holder,
                key_ring=key_ring,
                settings=settings or VaultSettings(),
                blobs=blobs,
                keys=keys,
                index_database=index_database,
            )
            vault._check_ring()
            vault._recover()
            opened.pop_all()
        return vault

    def close(self) -> None:
        """Let go of the files; the vault must not be used afterwards."""
        self._keys.close()
        self._index_database.close()
        self._blobs.close()

    def store(
        self,
        *,
        alias: bytes,
        record_class: str,
        media_type: str,
        content: bytes,
        source: str,
        record: bytes | None = None,
        version: int = 1,
        title: str = "",
    ) -> StoredVersion:
        """Store one version, durable on return. Raises like `store_many`."""
        new = NewVersion(
            alias=alias,
            record_class=record_class,
            media_type=media_type,
            content=content,
            source=source,
            record=record,
            version=version,
            title=title,
        )
        return self.store_many((new,))[0]

    def store_many(self, versions: Sequence[NewVersion]) -> tuple[StoredVersion, ...]:
        """Store all of `versions` or none, durable on return, with few syncs of the disk.

        Raises ContentRefused beyond the bounds of the settings, RecordErased for bytes that were erased
        under this alias, VersionRefused when a version does not follow the newest one held.
        """
        with self._lock:
            check_batch(versions, self.settings)
            envelopes: list[Envelope] = []
            stored: list[StoredVersion] = []
            names: list[bytes] = []
            for new in versions:
                envelope, kept, name = self._seal(new)
                envelopes.append(envelope)
                stored.append(kept)
                names.append(name)
            if not stored:
                return ()
            # The intent goes first: whatever of the rest a crash leaves behind, opening can undo it.
            self._index.write_intents([envelope.leaf for envelope in envelopes])
            self._blobs.put_many([(envelope.leaf.locator, envelope.sealed) for envelope in envelopes])
            self._keys.write(puts=[self._wrap_secrets(envelope) for envelope in envelopes])
            self._index.write_entries(list(zip(stored, names, strict=True)))
            return tuple(stored)

    def find_content(self, alias: bytes, content: bytes) -> StoredVersion | None:
        """The version with exactly these bytes that is held under `alias`, for sources that send twice."""
        row_id = self._index.find_content(self._index.compute_content_name(alias, compute_digest(content)))
        return None if row_id is None else self._index.get(*split_row_id(row_id))

    def is_erased(self, alias: bytes, content: bytes) -> bool:
        """Whether exactly these bytes were erased under `alias`: they must not be taken in again."""
        return self._index.is_tombstone(self._index.compute_content_name(alias, compute_digest(content)))

    def set_anchor(
        self,
        versions: Sequence[StoredVersion],
        anchor: bytes,
        inclusions: Sequence[Inclusion],
    ) -> tuple[StoredVersion, ...]:
        """Note which anchor on the ledger commits to each version and where its leaf stands; in one write.

        Raises RecordNotHeld, RecordErased or VaultMismatch when one of them is not there as stored.
        """
        if len(anchor) != IDENTIFIER_BYTES or len(versions) != len(inclusions):
            raise ValueError(
                f"{len(versions)} versions and {len(inclusions)} inclusions, anchor of {len(anchor)} bytes"
            )
        with self._lock:
            current = [self._get(item.record, item.version) for item in versions]
            return self._index.set_anchor(current, anchor, inclusions)

    def read(self, record: bytes, version: int | None = None) -> OpenedVersion:
        """The original bytes of a version, by default the newest.

        Raises RecordNotHeld, RecordErased, or VaultMismatch when blob, secrets or index are not those that
        were stored. Whether the leaf is the one on the ledger is the caller's to compare.
        """
        stored = self._get(record, version)
        leaf = stored.leaf
        try:
            secrets_ = self._get_secrets(leaf)
            sealed = self._blobs.get(leaf.locator, size=stored.size_bytes + BLOB_OVERHEAD_BYTES)
            content = open_version(sealed=sealed, leaf=leaf, holder=self.holder, secrets=secrets_)
        except BlobMissing as error:
            self._raise_if_erased(record)
            raise self._mismatch(Finding.MISSING, leaf, str(error)) from error
        except BlobUnusable as error:
            raise self._mismatch(Finding.CIPHERTEXT_ALTERED, leaf, str(error)) from error
        except EnvelopeMismatch as error:
            raise self._mismatch(error.finding, leaf, str(error)) from error
        return OpenedVersion(stored=stored, content=content, salt=secrets_.salt)

    def get_stored(self, record: bytes, version: int | None = None) -> StoredVersion:
        """What is known about a version, by default the newest, without opening it."""
        return self._get(record, version)

    def list_records(self, alias: bytes, anchor: bytes | None = None) -> tuple[StoredVersion, ...]:
        """Every version held under `alias`, or those of one anchor, ordered by record and version."""
        found = self._index.list_by_alias(alias)
        return tuple(item for item in found if anchor is None or item.anchor == anchor)

    def list_unanchored(self, *, count_max: int = 10_000) -> tuple[StoredVersion, ...]:
        """Versions whose anchor is not known yet: to be anchored after a crash or a refusal."""
        return self._index.list_unanchored(count_max)

    def get_blob_path(self, record: bytes, version: int | None = None) -> Path:
        """Where the sealed bytes lie, for tests and for demonstrations of tampering."""
        return self._blobs.get_path(self._get(record, version).leaf.locator)

    def erase(self, record: bytes) -> None:
        """Destroy salts, keys and sealed bytes of every version for good; durable on return.

        No file of the vault opens the record afterwards, the same bytes are refused under its alias, and
        the row that says so tells nothing without the key ring. Raises RecordNotHeld or RecordErased.
        """
        with self._lock:
            versions = self._index.list_row_ids(record)
            if not versions:
                self._raise_if_erased(record)
                raise RecordNotHeld(f"record {record.hex()}: not held here")
            self._index.begin_erasure(record)
            self._finish_erasure(record)

    def _finish_erasure(self, record: bytes) -> None:
        """Every step may be done twice: a crash in between is completed by the next opening."""
        row_ids = self._index.list_row_ids(record)
        locators = self._index.list_locators(record)
        # Secrets first: from here on nothing that is left can be opened.
        self._keys.destroy(row_ids)
        self._blobs.delete_many(locators)
        self._index.finish_erasure(record)

    def rotate_keys(self) -> int:
        """Re-wrap everything under a new key and drop the old one; how many rows were re-wrapped.

        Killed half-way, every row opens under exactly one key of the ring, and the next call goes on where
        this one stopped. Originals are not encrypted again: their data keys are what is wrapped anew.
        """
        with self._lock:
            if not self._ring.is_rotating:
                self._ring.begin_rotation()
            count = rewrap_all(
                ring=self._ring,
                index=self._index,
                keys=self._keys,
                index_database=self._index_database,
                holder=self.holder,
                rows_per_batch=self.settings.rewrap_rows_per_batch,
            )
            self._ring.finish_rotation()
            return count

    def table(self, name: str) -> SealedTable:
        """The encrypted table of that name; it need not be created."""
        return SealedTable(name, database=self._index_database, key_ring=self._ring, lock=self._lock)

    def _seal(self, new: NewVersion) -> tuple[Envelope, StoredVersion, bytes]:
        record = secrets.token_bytes(IDENTIFIER_BYTES) if new.record is None else new.record
        if new.record is not None or new.version != 1:
            self._check_version(new, record)
        name = self._index.compute_content_name(new.alias, compute_digest(new.content))
        if self._index.is_tombstone(name):
            raise RecordErased("these bytes were erased under this alias: they are not taken in again")
        envelope = seal_version(record=record, version=new.version, holder=self.holder, content=new.content)
        stored = StoredVersion(
            alias=new.alias,
            record_class=new.record_class,
            media_type=new.media_type,
            source=new.source,
            title=new.title,
            leaf=envelope.leaf,
            size_bytes=len(new.content),
            anchor=None,
            inclusion=None,
        )
        return envelope, stored, name

    def _check_version(self, new: NewVersion, record: bytes) -> None:
        self._raise_if_erased(record)
        held = self._index.list_row_ids(record)
        newest = split_row_id(held[-1])[1] if held else 0
        if new.version != newest + 1:
            raise VersionRefused(f"record {record.hex()}: version {new.version} found, {newest + 1} expected")
        if newest:
            previous = self._get(record, newest)
            if (previous.alias, previous.record_class) != (new.alias, new.record_class):
                raise VersionRefused(
                    f"record {record.hex()}: a new version keeps alias and class of the one before it"
                )

    def _get(self, record: bytes, version: int | None) -> StoredVersion:
        if len(record) != IDENTIFIER_BYTES:
            raise RecordNotHeld(f"record id of {len(record)} bytes found, {IDENTIFIER_BYTES} expected")
        self._raise_if_erased(record)
        if version is None:
            held = self._index.list_row_ids(record)
            version = split_row_id(held[-1])[1] if held else 0
        if not 1 <= version < 1 << 8 * VERSION_BYTES:
            raise RecordNotHeld(f"record {record.hex()}: not held here")
        stored = self._index.get(record, version)
        if stored is None:
            raise RecordNotHeld(f"record {record.hex()} version {version}: not held here")
        return stored

    def _raise_if_erased(self, record: bytes) -> None:
        if self._index.is_erased(record):
            raise RecordErased(f"record {record.hex()}: erased")

    def _wrap_secrets(self, envelope: Envelope) -> tuple[bytes, bytes]:
        leaf = envelope.leaf
        binding = compute_secrets_binding(leaf, self.holder)
        return compute_row_id(leaf.record, leaf.version), self._ring.wrap(
            envelope.secrets.to_bytes(), binding
        )

    def _get_secrets(self, leaf: RecordLeaf) -> Secrets:
        try:
            value = self._secrets.get(
                compute_row_id(leaf.record, leaf.version), compute_secrets_binding(leaf, self.holder)
            )
            if value is not None:
                return Secrets.from_bytes(value)
        except (DecryptionError, ValueError) as error:
            raise self._mismatch(
                Finding.CIPHERTEXT_ALTERED, leaf, f"salt and data key do not open: {error}"
            ) from error
        self._raise_if_erased(leaf.record)
        raise self._mismatch(Finding.MISSING, leaf, "no salt and data key found")

    def _mismatch(self, finding: Finding, leaf: RecordLeaf, detail: str) -> VaultMismatch:
        return VaultMismatch(finding, record=leaf.record, version=leaf.version, detail=detail)

    def _check_ring(self) -> None:
        """The ring must be the one that sealed this vault, for this holder, or nothing would open."""
        binding = compute_index_binding(CANARY)
        wrapped = self._index_database.get(CANARY)
        if wrapped is None:
            self._index_database.write(puts=[(CANARY, self._ring.wrap(self.holder, binding))])
            return
        try:
            found = self._ring.unwrap(wrapped, binding)
        except DecryptionError as error:
            raise KeyRingError(
                f"{self._ring.path}: another key ring sealed this vault ({error}); "
                "give the node the ring that belongs to it"
            ) from error
        if found != self.holder:
            raise KeyRingError(f"vault of holder {found.hex()} found, {self.holder.hex()} expected")

    def _recover(self) -> None:
        """Undo stores and complete erasures that a crash cut short."""
        for row_id, locator in self._index.list_intents():
            self._blobs.delete_many([locator])
            self._keys.destroy([row_id])
            self._index.drop_intent(row_id)
        for record in self._index.list_erasures():
            self._finish_erasure(record)

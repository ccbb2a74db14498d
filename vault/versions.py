"""What the vault knows about a stored version, and the rows in which it keeps it.

Rows of the index hold metadata (alias, class, title, source), so their values are wrapped under the key
ring, bound to their own key; the keys hold random ids and keyed names only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from contracts.calls.evidence import Inclusion, RecordLeaf
from crypto.encoding import encode

VERSION_BYTES: Final = 4
ENTRY_BYTES_MAX: Final = 16_384
TEXT_CHARACTERS_MAX: Final = 1_000
"""Longest media type, source or title."""

ENTRY: Final = b"r"
"""record, version → wrapped VersionEntry."""
BY_ALIAS: Final = b"a"
"""keyed name of the alias, record, version → nothing."""
UNANCHORED: Final = b"u"
"""record, version → nothing, until its anchor is known."""
BY_CONTENT: Final = b"c"
"""keyed name of alias and content, → record, version: what was ingested already."""
TOMBSTONE: Final = b"t"
"""keyed name of alias and content → record, version: what was erased and must not come back."""
STORING: Final = b"i"
"""record, version → locator, from before the blob until the entry: what to undo after a crash."""
ERASING: Final = b"x"
"""record → nothing: an erasure has begun and must be finished."""
ERASED: Final = b"e"
"""record → nothing: the record was here."""
TABLE: Final = b"k"
"""keyed name of table, keyed name of key → wrapped key and value."""
CANARY: Final = b"v"
"""→ wrapped holder: tells whether ring and vault belong together."""


class VersionEntry(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The encoded metadata of one version."""

    format_version: int
    alias: bytes
    record_class: str
    media_type: str
    source: str
    title: str
    leaf: RecordLeaf
    size_bytes: int
    content_name: bytes
    """Keyed name of alias and content."""
    anchor: bytes
    inclusion: Inclusion | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """One original to store, as its source gave it."""

    alias: bytes
    """16 bytes: the alias that its patient has here."""
    record_class: str
    media_type: str
    source: str
    """Which system it came from."""
    content: bytes = field(repr=False)
    """The original bytes, unchanged."""
    record: bytes | None = None
    """16 bytes, or None for a new record."""
    version: int = 1
    title: str = field(default="", repr=False)
    """What a list shows; kept encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version that the vault holds, without its content."""

    alias: bytes
    record_class: str
    media_type: str
    source: str
    title: str = field(repr=False)
    leaf: RecordLeaf
    size_bytes: int
    anchor: bytes | None
    """16 bytes, None until it is known."""
    inclusion: Inclusion | None
    """Where the leaf stands in its anchor's tree."""

    @property
    def record(self) -> bytes:
        return self.leaf.record

    @property
    def version(self) -> int:
        return self.leaf.version


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedVersion:
    """A version with its original bytes, authenticated and matching its commitment."""

    stored: StoredVersion
    content: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    """32 bytes: opens the commitment for whoever may read the content."""

    @property
    def leaf(self) -> RecordLeaf:
        return self.stored.leaf

    @property
    def alias(self) -> bytes:
        return self.stored.alias

    @property
    def anchor(self) -> bytes | None:
        return self.stored.anchor

    @property
    def inclusion(self) -> Inclusion | None:
        return self.stored.inclusion

    @property
    def media_type(self) -> str:
        return self.stored.media_type

    @property
    def record_class(self) -> str:
        return self.stored.record_class

    @property
    def title(self) -> str:
        return self.stored.title

    @property
    def version(self) -> int:
        return self.stored.version


def compute_row_id(record: bytes, version: int) -> bytes:
    """Record and version as they stand in keys: versions of a record sort in order."""
    return record + version.to_bytes(VERSION_BYTES, "big")


def split_row_id(row_id: bytes) -> tuple[bytes, int]:
    return row_id[:-VERSION_BYTES], int.from_bytes(row_id[-VERSION_BYTES:], "big")


def compute_index_binding(key: bytes) -> bytes:
    """Associated data of a wrapped value of the index: it opens under its own key only."""
    return b"chartchain:vault-index:1\x00" + encode(key)

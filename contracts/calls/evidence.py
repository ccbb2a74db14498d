"""Calls of the evidence contract: commitments to records, never the records.

A record version is committed to by its leaf, the canonical encoding of
`(record, version, commitment, locator)`; an anchor holds the RFC 6962 root over the leaves of one class of
one alias. A single record is a tree of one leaf, and its anchor's id is the record's id.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.calls.fields import Code, Hash, Identifier, MerklePath, RecordClass, Version
from crypto.encoding import encode
from crypto.hashing import Digest
from crypto.merkle import compute_leaf_hash

RECORDS_PER_ANCHOR_MAX = 65_536


class RecordLeaf(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is committed about one version of one record."""

    record: Identifier
    version: Version
    commitment: Hash
    """HMAC-SHA256(salt, original bytes); the 256-bit salt stays in the holder's vault."""
    locator: Identifier
    """Where the holder's vault keeps the sealed bytes; says nothing to anybody else."""

    def compute_hash(self) -> Digest:
        return compute_leaf_hash(encode(self))


class Inclusion(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a leaf stands in its anchor's tree: `index` below `size`, and the audit path."""

    index: Annotated[int, Meta(ge=0, lt=RECORDS_PER_ANCHOR_MAX)]
    path: MerklePath


class Anchor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder of the alias: commit to one new record."""

    alias: Identifier
    record_class: RecordClass
    leaf: RecordLeaf


class AnchorMany(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder of the alias: commit to `count` new records of one class with one row."""

    alias: Identifier
    anchor: Identifier
    record_class: RecordClass
    root: Hash
    count: Annotated[int, Meta(ge=1, le=RECORDS_PER_ANCHOR_MAX)]


class Supersede(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder: `replacement` is the next version of a record that `anchor` commits to."""

    alias: Identifier
    anchor: Identifier
    leaf: RecordLeaf
    inclusion: Inclusion
    replacement: RecordLeaf


class Withdraw(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder: a record must no longer be served (closed, or erased in the vault)."""

    alias: Identifier
    anchor: Identifier
    leaf: RecordLeaf
    inclusion: Inclusion
    reason: Code

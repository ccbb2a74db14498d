"""Evidence: commitments to records, one rooted row for each anchor.

Invariants: an anchor row never changes; a record has a row of its own only after it was superseded or
withdrawn, and that row then says what holds; every version after the first keeps a row.

`anchor` is the ledger's most frequent call: three look-ups, one existence check, one write. It emits no
event and counts nothing, for both would say no more than the row does and cost as much as the rest.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from contracts.aliases import require_holder
from contracts.calls import evidence as calls
from contracts.calls.evidence import Inclusion, RecordLeaf
from contracts.calls.fields import RecordClass
from contracts.context import Context
from contracts.contract import Contract
from contracts.errors import BadArguments, Conflict, NotFound
from contracts.tables import ReadableState, Table
from crypto.merkle import ProofError, verify_inclusion

contract: Final = Contract("evidence", version=1)


class AnchorRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A commitment to `count` records of one class; the row's key is alias and anchor."""

    record_class: RecordClass
    root: bytes
    """RFC 6962 root over the records' leaves."""
    count: int
    height: int


class RecordRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What holds of a record that has changed since its anchor; key: alias, anchor, record."""

    leaf: RecordLeaf
    """The current version."""
    changed_height: int
    withdrawn_height: int
    """Where it was withdrawn; 0 while it may be served."""
    withdrawn_reason: str

    @property
    def is_withdrawn(self) -> bool:
        return self.withdrawn_height != 0


class VersionRow(msgspec.Struct, frozen=True, array_like=True):
    """A version after the first; key: alias, anchor, record, version (4 bytes, big-endian)."""

    leaf: RecordLeaf
    height: int


anchors: Final = Table("evidence", "anchors", AnchorRow)
records: Final = Table("evidence", "records", RecordRow)
versions: Final = Table("evidence", "versions", VersionRow)


@contract.method(calls.Anchor)
def anchor(context: Context, arguments: calls.Anchor) -> None:
    leaf = arguments.leaf
    if leaf.version != 1:
        raise BadArguments(f"version {leaf.version} found, 1 expected: supersede the record instead")
    row = AnchorRow(arguments.record_class, leaf.compute_hash(), 1, context.height)
    _put_anchor(context, arguments.alias, leaf.record, row)


@contract.method(calls.AnchorMany)
def anchor_many(context: Context, arguments: calls.AnchorMany) -> None:
    row = AnchorRow(arguments.record_class, arguments.root, arguments.count, context.height)
    _put_anchor(context, arguments.alias, arguments.anchor, row)


@contract.method(calls.Supersede)
def supersede(context: Context, arguments: calls.Supersede) -> None:
    alias = require_holder(context, arguments.alias)
    leaf, replacement = arguments.leaf, arguments.replacement
    _require_current(context, arguments.alias, arguments.anchor, leaf, arguments.inclusion)
    if replacement.record != leaf.record:
        raise BadArguments("the replacement is of another record", code="other_record")
    if replacement.version != leaf.version + 1:
        raise BadArguments(
            f"version {replacement.version} found, {leaf.version + 1} expected", code="wrong_version"
        )
    key = arguments.alias + arguments.anchor + leaf.record
    row = RecordRow(leaf=replacement, changed_height=context.height, withdrawn_height=0, withdrawn_reason="")
    context.put(records, key, row)
    version_key = key + replacement.version.to_bytes(4, "big")
    context.put(versions, version_key, VersionRow(replacement, context.height))
    context.emit(
        "evidence",
        "superseded",
        alias.audience,
        arguments.alias,
        arguments.anchor,
        leaf.record,
        replacement.version,
    )


@contract.method(calls.Withdraw)
def withdraw(context: Context, arguments: calls.Withdraw) -> None:
    alias = require_holder(context, arguments.alias)
    leaf = arguments.leaf
    _require_current(context, arguments.alias, arguments.anchor, leaf, arguments.inclusion)
    row = RecordRow(
        leaf=leaf,
        changed_height=context.height,
        withdrawn_height=context.height,
        withdrawn_reason=arguments.reason,
    )
    context.put(records, arguments.alias + arguments.anchor + leaf.record, row)
    context.emit(
        "evidence",
        "withdrawn",
        alias.audience,
        arguments.alias,
        arguments.anchor,
        leaf.record,
        arguments.reason,
    )


def get_anchor(state: ReadableState, alias: bytes, anchor: bytes) -> AnchorRow | None:
    return anchors.get(state, alias + anchor)


def list_anchors(
    state: ReadableState, alias: bytes, classes: Collection[str] | None = None
) -> list[tuple[bytes, AnchorRow]]:
    """Anchor ids and rows of one alias, of the given classes or of all."""
    return [
        (key[16:], row)
        for key, row in anchors.scan(state, alias)
        if classes is None or row.record_class in classes
    ]


def get_record(state: ReadableState, alias: bytes, anchor: bytes, record: bytes) -> RecordRow | None:
    """What holds of a changed record; None when its anchor still does."""
    return records.get(state, alias + anchor + record)


def list_records(state: ReadableState, alias: bytes, anchor: bytes) -> list[tuple[bytes, RecordRow]]:
    """Ids and rows of the changed records of one anchor."""
    return [(key[32:], row) for key, row in records.scan(state, alias + anchor)]


def get_version(
    state: ReadableState, alias: bytes, anchor: bytes, record: bytes, version: int
) -> VersionRow | None:
    """A version after the first; the first one is proved by the anchor's root."""
    return versions.get(state, alias + anchor + record + version.to_bytes(4, "big"))


def _put_anchor(context: Context, alias: bytes, anchor: bytes, row: AnchorRow) -> None:
    require_holder(context, alias)
    key = alias + anchor
    if context.get(anchors, key) is not None:
        raise Conflict(f"anchor {anchor.hex()} exists: supersede its records instead", code="anchor_exists")
    context.put(anchors, key, row)


def _require_current(
    context: Context, alias: bytes, anchor: bytes, leaf: RecordLeaf, inclusion: Inclusion
) -> None:
    """The leaf is what holds of its record: the record's own row, or else the anchor's tree, says so."""
    row = context.get(anchors, alias + anchor)
    if row is None:
        raise NotFound(f"anchor {anchor.hex()} is not under this alias", code="anchor_unknown")
    current = context.get(records, alias + anchor + leaf.record)
    if current is None:
        _verify_in_anchor(row, leaf, inclusion)
        return
    if current.is_withdrawn:
        raise Conflict(f"record {leaf.record.hex()} is withdrawn", code="already_withdrawn")
    if current.leaf != leaf:
        raise Conflict(
            f"record {leaf.record.hex()}: version {current.leaf.version} holds", code="not_current"
        )


def _verify_in_anchor(row: AnchorRow, leaf: RecordLeaf, inclusion: Inclusion) -> None:
    try:
        verify_inclusion(
            leaf_hash=leaf.compute_hash(),
            index=inclusion.index,
            size=row.count,
            path=inclusion.path,
            root=row.root,
        )
    except ProofError as error:
        raise BadArguments(f"leaf is not in its anchor: {error}", code="not_in_anchor") from error

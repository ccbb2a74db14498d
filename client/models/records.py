"""Storing, listing and reading records."""

from __future__ import annotations

from client.models.base import Base64, Classes, Count, Hash, Identifier, Model, Text
from contracts.calls.authorization import Outcome
from contracts.calls.fields import Purpose, RecordClass


class StoredRecord(Model):
    record: Identifier
    version: Count
    record_class: RecordClass
    anchor: Identifier
    resource_type: str
    title: str


class BundleAnswer(Model):
    """Everything in the bundle is sealed and anchored, or nothing is."""

    records: tuple[StoredRecord, ...]
    transactions: tuple[Hash, ...]


class FolderRecord(Model):
    record: Identifier
    version: Count
    record_class: RecordClass
    media_type: str
    anchor: str
    """The anchor's id; empty while it is being anchored."""


class FolderAnswer(Model):
    alias: Identifier
    holder: Identifier
    custodian: Identifier
    records: tuple[FolderRecord, ...]


class ReadRequest(Model):
    """A clinician asks for classes of one alias; own and other institutions' records alike, by grant."""

    alias: Identifier
    classes: Classes
    purpose: Purpose = "care"
    grant: Identifier | None = None
    """The grant relied on; unless given, a live one of this reader, or none: then the ledger refuses."""
    reason: Text
    """Committed to on the ledger, told to the holder, kept sealed here."""


class RecordChecks(Model):
    """What was verified here before the copy was handed over."""

    anchored_height: Count
    """The height at which the holder committed to these very bytes."""
    commitment: Hash
    holder: Identifier
    holder_signature: bool
    inclusion: bool
    """The record's leaf lies under the anchor's root on this node's own ledger."""
    commitment_opened: bool
    """The bytes are those that the leaf commits to, under the salt that came with them."""


class ReadRecord(Model):
    record: Identifier
    version: Count
    record_class: RecordClass
    media_type: str
    content: Base64
    checks: RecordChecks


class ReadAnswer(Model):
    ticket: Hash
    """The id of the authorisation's transaction."""
    height: Count
    records: tuple[ReadRecord, ...]
    outcome: Outcome
    outcome_transaction: Hash
    anchors_left_out: Count = 0
    """Anchors of these classes beyond the 64 that one request may name: ask for fewer classes."""

"""Calls of monitoring: what institutions report and regulators acknowledge."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.calls.fields import Code, Hash, Identifier, KeyBytes, SignatureBytes


class ReportMismatch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder or a reader: stored or served bytes are not what the ledger commits to."""

    alias: Identifier
    anchor: Identifier
    record: Identifier
    finding: Code
    """`ciphertext_altered`, `commitment_mismatch`, `missing`, …"""


class SignedVote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A replica's vote, field by field as replicas send it."""

    epoch: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    height: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    view: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    phase: Annotated[int, Meta(ge=0, le=2)]
    """0 for PRE-PREPARE, 1 for PREPARE, 2 for COMMIT."""
    digest: Hash
    replica: Annotated[int, Meta(ge=0, le=65_535)]
    signature: SignatureBytes


class ReportEquivocation(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By any institution: a replica signed two votes for one slot that name different blocks."""

    first: SignedVote
    second: SignedVote
    public_key: KeyBytes
    """The key that the replica had at that height."""


class AcknowledgeAlert(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By a regulator: this alert has been seen and is followed up."""

    alert: Annotated[bytes, Meta(min_length=41, max_length=41)]
    """Height (8 bytes, big-endian), transaction id (32 bytes) and number within it (1 byte)."""

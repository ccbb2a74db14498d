"""Calls of monitoring: what institutions report and regulators acknowledge."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.calls.fields import Code, Identifier


class ReportMismatch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder or a reader: stored or served bytes are not what the ledger commits to."""

    alias: Identifier
    anchor: Identifier
    record: Identifier
    finding: Code
    """`ciphertext_altered`, `commitment_mismatch`, `missing`, …"""


class AcknowledgeAlert(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By a regulator: this alert has been seen and is followed up."""

    alert: Annotated[bytes, Meta(min_length=41, max_length=41)]
    """Height (8 bytes, big-endian), transaction id (32 bytes) and number within it (1 byte)."""

"""Calls of authorization: grants, their revocation, and every request to read.

An `authorize` call that was allowed is the reader's ticket; the ticket's id is its transaction's id.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.calls.fields import (
    Hash,
    Identifier,
    KeyBytes,
    OptionalIdentifier,
    Purpose,
    RecordClasses,
    TimeMs,
)

Assurance = Literal["custodial", "own_key"]
"""Who vouches for the patient's will: the custodian, or the patient's own signature."""

Profile = Literal["original"]
"""The form in which the holder serves: so far the bytes as they came, and for care only."""

Outcome = Literal["delivered", "failed"]

ANCHORS_PER_REQUEST_MAX = 64


class Grant(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the custodian, or by the patient's own key: a grantee may read classes of one alias for a time."""

    grant: Identifier
    alias: Identifier
    institution: Identifier
    """The grantee's institution."""
    member: OptionalIdentifier
    """The one member of it who may read, or empty for any of its clinicians."""
    classes: RecordClasses
    purpose: Purpose
    profile: Profile
    from_ms: TimeMs
    until_ms: TimeMs
    uses_max: Annotated[int, Meta(ge=0, le=1_000_000)]
    """How many authorisations it covers; 0 for any number within its time."""
    assurance: Assurance
    mandate: OptionalIdentifier
    """The mandate of the representative who asked for it, or empty when the patient did."""
    notice_version: Annotated[str, Meta(min_length=1, max_length=20)]
    """Version of the notice that the patient or representative agreed to."""


class Revoke(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the custodian, the holder or the patient's own key: no new authorisation from here on."""

    grant: Identifier


class Authorize(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the requester's institution, alone in its transaction: may this member read these anchors now?

    The result is `("allowed",)` or `("refused", reason)`; both are written.
    """

    alias: Identifier
    grant: OptionalIdentifier
    """The grant relied on; empty when the requester knows of none."""
    anchors: Annotated[tuple[Identifier, ...], Meta(max_length=ANCHORS_PER_REQUEST_MAX)]
    purpose: Purpose
    member: Identifier
    ephemeral_key: KeyBytes
    """X25519 key to which the holder seals the copy (HPKE, RFC 9180)."""
    details: Hash
    """Salted commitment to the session's evidence and reason; given to the holder too."""


class ReportOutcome(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the requester's institution: what came of an allowed request."""

    alias: Identifier
    height: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    """The height at which the ticket was committed."""
    ticket: Hash
    outcome: Outcome

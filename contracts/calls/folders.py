"""Calls of the folders: an institution's aliases for its patients, and who may speak for them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from contracts.calls.fields import (
    Code,
    Hash,
    Identifier,
    KeyBytes,
    OptionalHash,
    OptionalKeyBytes,
    OptionalSignatureBytes,
    RecordClasses,
    SignatureBytes,
    TimeMs,
)
from crypto.encoding import encode

FreezeReason = Literal["dispute", "death", "safeguarding"]


def compute_patient_key_bytes(chain_id: bytes, holder: bytes, patient_key: bytes) -> bytes:
    """What a patient's key signs before it stands on this ledger: which institution may say whose it is."""
    return encode((chain_id, holder, patient_key))


class RegisterAlias(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The caller's institution, the holder, opens its part of a patient's folder under its own alias."""

    alias: Identifier
    custodian: Identifier
    """The institution that keeps the patient's map of aliases and attests their wishes."""
    patient_key: OptionalKeyBytes
    """The patient's own Ed25519 key, or empty."""
    credential: OptionalHash
    """Salted digest of the patient's pinned credential, or empty."""
    possession: OptionalSignatureBytes = b""
    """By the patient's key, tag PATIENT_KEY, over `compute_patient_key_bytes`; empty without one."""


class RegisterPatientKey(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the holder: set or replace the patient's own key."""

    alias: Identifier
    patient_key: KeyBytes
    possession: SignatureBytes
    """As in RegisterAlias."""


class AttestMandate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By the custodian: a representative may speak for the patient, for at most twelve months."""

    mandate: Identifier
    alias: Identifier
    representative: Identifier
    """A random handle; who it is stays with the custodian."""
    scope: RecordClasses
    evidence: Hash
    from_ms: TimeMs
    until_ms: TimeMs


class SuspendMandate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    mandate: Identifier
    reason: Code


class ReinstateMandate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    mandate: Identifier


class EndMandate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    mandate: Identifier
    reason: Code


class FreezeAlias(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By holder, custodian or a regulator: no new grants or authorisations until unfrozen."""

    alias: Identifier
    reason: FreezeReason


class UnfreezeAlias(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    alias: Identifier

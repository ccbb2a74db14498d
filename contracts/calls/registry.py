"""Calls of the registry: institutions' keys and members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.calls.fields import Code, Hash, Identifier, KeyBytes, SignatureBytes

InstitutionKind = Literal["hospital", "primary_care", "public_health", "regulator"]
MemberRole = Literal["clinician", "clerk", "officer", "auditor"]

InstitutionName = Annotated[str, Meta(min_length=1, max_length=80)]
GatewayUrl = Annotated[str, Meta(min_length=8, max_length=200)]


class RegisterMember(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The caller's institution takes responsibility for a member known here by a random handle only."""

    member: Identifier
    role: MemberRole
    evidence: Hash
    """Salted digest of the licence and employment evidence that stays with the institution."""


class SuspendMember(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    member: Identifier
    reason: Code


class ReinstateMember(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    member: Identifier


class RotateKey(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The caller's institution signs with another key from this transaction on."""

    public_key: KeyBytes
    proof: SignatureBytes
    """By the new key, tag KEY_ROTATION, over encode((chain id, institution, new key))."""


class SuspendInstitution(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """By a regulator: the institution's transactions and its readers are refused until reinstated."""

    institution: Identifier
    reason: Code


class ReinstateInstitution(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    institution: Identifier

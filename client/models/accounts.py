"""Logging in, and registering members, patients and mandates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from client.models.base import (
    Classes,
    Hash,
    Identifier,
    Model,
    PublicKeyHex,
    Role,
    SignatureHex,
    Text,
    TimeMs,
)
from contracts.calls.registry import MemberRole

Subject = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Who logs in: an account's handle")]


class ChallengeRequest(Model):
    subject: Subject


class ChallengeAnswer(Model):
    challenge: Hash
    audience: str
    """The gateway's own URL, which the signature names too."""
    expires_ms: TimeMs


class LoginRequest(Model):
    subject: Subject
    challenge: Hash
    signature: SignatureHex
    """Tag LOGIN_CHALLENGE, over the canonical encoding of (challenge, audience, subject)."""


class LoginAnswer(Model):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in_seconds: int
    role: Role
    institution: Identifier


class MemberRequest(Model):
    """A person of this institution. An operator has an account here and no handle on the ledger."""

    role: Literal[MemberRole, "operator"]
    public_key: PublicKeyHex
    """The key that the member logs in with."""
    evidence: Text
    """Licence and employment; stays here, sealed. The ledger gets a salted digest."""


class MemberAnswer(Model):
    member: Identifier
    """The handle: also the subject to log in with."""
    transaction: str
    """Empty for an operator, and when an earlier request's transaction has registered the member."""


class SuspendMemberRequest(Model):
    reason: Annotated[str, Field(pattern=r"^[a-z0-9_.\-]{1,40}$")]


class PatientRequest(Model):
    """A patient of this institution, by the number that its own systems know them by."""

    patient: Annotated[str, Field(min_length=1, max_length=80)]
    """Local number; kept sealed, never on the ledger."""
    custodian: Identifier | None = None
    """The institution that speaks for the patient; this one unless given."""
    public_key: PublicKeyHex | None = None
    """A key for the patient to log in with."""
    possession: SignatureHex | None = None
    """Also put `public_key` on the ledger, so that the patient's own signature grants: by that key, tag
    PATIENT_KEY, over the canonical encoding of (chain id, this institution, public key)."""


class PatientAnswer(Model):
    alias: Identifier
    """This institution's alias for the patient on the ledger."""
    subject: Identifier
    """The patient's account."""
    transaction: str
    """Empty when an earlier request's transaction has registered it."""


class LinkAliasRequest(Model):
    """At the custodian: another institution's alias belongs to this patient, by the patient's own act."""

    alias: Identifier


class MandateRequest(Model):
    """A representative may speak for the patient behind `alias`."""

    alias: Identifier
    scope: Classes
    evidence: Text
    """What the custodian saw; stays here, sealed."""
    until_ms: TimeMs
    from_ms: TimeMs | None = None
    """Now unless given."""
    public_key: PublicKeyHex | None = None
    """The key a new representative logs in with; left out when `representative` is given."""
    representative: Identifier | None = None
    """An existing account here."""

    @model_validator(mode="after")
    def _check_one(self) -> MandateRequest:
        if (self.public_key is None) == (self.representative is None):
            raise ValueError("give either public_key (a new account) or representative (an existing one)")
        return self


class MandateAnswer(Model):
    mandate: Identifier
    representative: Identifier
    """The account to log in with."""
    transaction: str
    """Empty when an earlier request's transaction has attested it."""

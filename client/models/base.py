"""What all models share: their strictness, the types of ids and times, and the form of a refusal."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.calls.fields import RECORD_CLASSES, RecordClass

TRANSACTIONS_PER_REQUEST_MAX: Final = 1_000

Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="16 random bytes in hexadecimal")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="32 bytes in hexadecimal")]
PublicKeyHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Ed25519 public key")]
SignatureHex = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$", description="Ed25519 signature")]
AlertId = Annotated[str, Field(pattern=r"^[0-9a-f]{82}$", description="41 bytes in hexadecimal")]
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$", description="Standard base64")]
TimeMs = Annotated[int, Field(ge=0, le=2**53)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Classes = Annotated[tuple[RecordClass, ...], Field(min_length=1, max_length=len(RECORD_CLASSES))]
Text = Annotated[str, Field(min_length=1, max_length=400)]

Role = Literal["clinician", "clerk", "officer", "auditor", "operator", "patient", "representative"]
End = Literal["committed", "failed", "expired", "pending", "unknown"]


class Model(BaseModel):
    """Frozen, strictly typed, no field beyond those named."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Problem(Model):
    """The body of every refusal, as application/problem+json (RFC 9457)."""

    status: int
    code: str
    """For programs; stable."""
    message: str
    """What was found and what was expected."""
    what_to_do: str

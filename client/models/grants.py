"""Grants: given, listed, revoked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from client.models.base import Classes, Count, Hash, Identifier, Model, TimeMs
from contracts.calls.authorization import Profile
from contracts.calls.fields import Purpose, RecordClass


class GrantRequest(Model):
    alias: Identifier
    institution: Identifier
    """The reader's institution."""
    member: Identifier | None = None
    """One member of it; any of its clinicians unless given."""
    classes: Classes
    purpose: Purpose = "care"
    profile: Profile = "original"
    from_ms: TimeMs | None = None
    """Now unless given."""
    until_ms: TimeMs
    uses_max: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """0: any number within its time."""
    notice_version: Annotated[str, Field(min_length=1, max_length=20)]
    """Version of the notice that the patient or representative agreed to."""


class GrantAnswer(Model):
    grant: Identifier
    transaction: Hash
    height: Count


class RevokeAnswer(Model):
    grant: Identifier
    transaction: Hash
    height: Count
    """No authorisation above this height can rely on the grant."""


class GrantEntry(Model):
    grant: Identifier
    alias: Identifier
    institution: Identifier
    member: str
    classes: tuple[RecordClass, ...]
    purpose: Purpose
    from_ms: TimeMs
    until_ms: TimeMs
    uses_max: Count
    uses: Count
    state: Literal["open", "not_yet", "over", "used_up", "revoked"]


class GrantsAnswer(Model):
    grants: tuple[GrantEntry, ...]

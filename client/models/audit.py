"""The audit trail, statistics and alerts."""

from __future__ import annotations

from typing import Literal

from client.models.base import AlertId, Count, Hash, Identifier, Model, TimeMs
from client.models.grants import GrantEntry
from contracts.calls.fields import Purpose


class TrailEntry(Model):
    """One request to read, allowed or refused."""

    height: Count
    time_ms: TimeMs
    ticket: Hash
    institution: Identifier
    member: Identifier
    grant: str
    purpose: Purpose
    decision: Literal["allowed", "refused"]
    reason: str
    """Why refused; empty when allowed."""
    outcome: str
    """`delivered`, `failed`, or empty while none was reported."""
    anchors: int


class TrailAnswer(Model):
    alias: Identifier
    entries: tuple[TrailEntry, ...]
    grants: tuple[GrantEntry, ...]


class StatisticsCell(Model):
    institution: Identifier
    kind: str
    count: Count | None
    """In steps of ten; null for fewer than ten, none among them."""


class StatisticsAnswer(Model):
    height: Count
    cells: tuple[StatisticsCell, ...]
    totals: dict[str, Count]
    """Sums of the figures shown, so nothing hidden can be had by subtraction."""


class AlertEntry(Model):
    alert: AlertId
    kind: str
    time_ms: TimeMs
    institution: str
    member: str
    alias: str
    subject: str
    finding: str
    acknowledged: bool


class AlertsAnswer(Model):
    alerts: tuple[AlertEntry, ...]


class AcknowledgeAnswer(Model):
    alert: AlertId
    transaction: Hash

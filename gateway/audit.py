"""Audit: the trail of a folder, statistics and alerts, for regulators and for the patients themselves."""

from __future__ import annotations

from aiohttp import web

from client import models
from contracts.accesses import AccessRow, list_accesses
from contracts.alerts import AlertRow, get_alert, list_alerts
from contracts.calls.monitoring import AcknowledgeAlert
from contracts.grants import list_grants
from contracts.monitoring import compute_statistics
from gateway.authentication import get_session
from gateway.bodies import build_json, check_query, get_path_bytes
from gateway.desk import Desk
from gateway.errors import BadRequest, NotThere
from gateway.grants import describe_grant
from gateway.operations import Operation
from gateway.visibility import Visibility
from ledger.chain import Chain


class Audit:
    """Operations of supervision."""

    def __init__(self, *, chain: Chain, desk: Desk, visibility: Visibility) -> None:
        self._chain = chain
        self._desk = desk
        self._visibility = visibility

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="GET",
                path="/v1/audit/folders/{alias}",
                handler=self.handle_trail,
                summary="Every request to read an alias and every grant of it.",
                roles=("auditor", "officer", "patient", "representative"),
                answer=models.TrailAnswer,
                takes_min_height=True,
            ),
            Operation(
                method="GET",
                path="/v1/audit/statistics",
                handler=self.handle_statistics,
                summary="Counts for each institution, small ones suppressed.",
                roles=("auditor", "officer"),
                answer=models.StatisticsAnswer,
                takes_min_height=True,
            ),
            Operation(
                method="GET",
                path="/v1/audit/alerts",
                handler=self.handle_alerts,
                summary="What regulators should look at.",
                roles=("auditor", "officer"),
                answer=models.AlertsAnswer,
                query=(("open", "true for those not acknowledged"),),
                takes_min_height=True,
            ),
            Operation(
                method="POST",
                path="/v1/audit/alerts/{alert}/acknowledge",
                handler=self.handle_acknowledge,
                summary="Say that an alert has been seen and is followed up.",
                roles=("auditor", "officer"),
                answer=models.AcknowledgeAnswer,
            ),
        )

    async def handle_trail(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        alias = get_path_bytes(request, "alias", 16)
        self._visibility.require_alias(alias)
        if not self._visibility.is_owner(session.account, alias):
            self._visibility.require_regulator(session.account)
        state, time_ms = self._chain.state, self._chain.head.header.time_ms
        answer = models.TrailAnswer(
            alias=alias.hex(),
            entries=tuple(
                _describe_access(height, ticket, row) for height, ticket, row in list_accesses(state, alias)
            ),
            grants=tuple(describe_grant(grant, row, time_ms) for grant, row in list_grants(state, alias)),
        )
        return build_json(answer)

    async def handle_statistics(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        statistics = compute_statistics(self._chain.state)
        answer = models.StatisticsAnswer(
            height=self._chain.head.height,
            cells=tuple(
                models.StatisticsCell(institution=institution.hex(), kind=kind, count=count)
                for institution, kind, count in statistics.cells
            ),
            totals=dict(statistics.totals),
        )
        return build_json(answer)

    async def handle_alerts(self, request: web.Request) -> web.StreamResponse:
        check_query(request, "open")
        session = get_session(request)
        self._visibility.require_regulator(session.account)
        wanted = request.query.get("open", "false")
        if wanted not in ("true", "false"):
            raise BadRequest("bad_parameter", "open: true or false expected", "see /openapi.json")
        found = list_alerts(self._chain.state, open_only=wanted == "true")
        answer = models.AlertsAnswer(alerts=tuple(_describe_alert(alert, row) for alert, row in found))
        return build_json(answer)

    async def handle_acknowledge(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        self._visibility.require_regulator(session.account)
        alert = get_path_bytes(request, "alert", 41)
        if get_alert(self._chain.state, alert) is None:
            raise NotThere
        receipt = await self._desk.carry_out(AcknowledgeAlert(alert=alert))
        answer = models.AcknowledgeAnswer(alert=alert.hex(), transaction=receipt.transaction_id.hex())
        return build_json(answer)


def _describe_access(height: int, ticket: bytes, row: AccessRow) -> models.TrailEntry:
    return models.TrailEntry(
        height=height,
        time_ms=row.time_ms,
        ticket=ticket.hex(),
        institution=row.institution.hex(),
        member=row.member.hex(),
        grant=row.grant.hex(),
        purpose=row.purpose,
        decision="allowed" if row.is_allowed else "refused",
        reason=row.refusal,
        outcome=row.outcome,
        anchors=len(row.anchors),
    )


def _describe_alert(alert: bytes, row: AlertRow) -> models.AlertEntry:
    return models.AlertEntry(
        alert=alert.hex(),
        kind=row.kind,
        time_ms=row.time_ms,
        institution=row.institution.hex(),
        member=row.member.hex(),
        alias=row.alias.hex(),
        subject=row.subject.hex(),
        finding=row.finding,
        acknowledged=bool(row.acknowledged_height),
    )

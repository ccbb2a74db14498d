"""Grants: given, listed and revoked by those who speak for a patient, at the custodian's gateway."""

from __future__ import annotations

import time

from aiohttp import web

from client import models
from client.signing import draw_identifier
from contracts.calls.authorization import Grant, Revoke
from contracts.grants import GrantRow, get_grant, list_grants
from gateway.authentication import Session, get_session
from gateway.bodies import build_json, check_query, get_path_bytes, get_query_bytes, read_json_body
from gateway.desk import Desk
from gateway.errors import BadRequest, NotThere
from gateway.operations import Operation
from gateway.rates import RateLimit
from gateway.settings import GatewaySettings
from gateway.visibility import Visibility
from ledger.chain import Chain


class Grants:
    """Operations on grants."""

    def __init__(
        self,
        *,
        chain: Chain,
        desk: Desk,
        visibility: Visibility,
        rate: RateLimit,
        settings: GatewaySettings,
    ) -> None:
        self._chain = chain
        self._desk = desk
        self._visibility = visibility
        self._rate = rate
        self._settings = settings

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/grants",
                handler=self.handle_create,
                summary="Let an institution, or one member of it, read classes of an alias for a time.",
                roles=("officer", "patient", "representative"),
                request=models.GrantRequest,
                answer=models.GrantAnswer,
                status=201,
            ),
            Operation(
                method="GET",
                path="/v1/grants",
                handler=self.handle_list,
                summary="Every grant of an alias; a reader's institution sees those to itself.",
                roles=("officer", "clinician", "clerk", "auditor", "patient", "representative"),
                answer=models.GrantsAnswer,
                query=(("alias", "whose grants"),),
                takes_min_height=True,
            ),
            Operation(
                method="DELETE",
                path="/v1/grants/{grant}",
                handler=self.handle_revoke,
                summary="Revoke: no authorisation after this block, and no ticket is served any more.",
                roles=("officer", "patient", "representative"),
                answer=models.RevokeAnswer,
            ),
        )

    async def handle_create(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        self._rate.take(session.subject.hex())
        body = await read_json_body(request, models.GrantRequest, settings=self._settings)
        alias, grant = bytes.fromhex(body.alias), draw_identifier()
        row = self._visibility.require_alias(alias)
        # Only the custodian's signature counts, and only for whom it speaks.
        if row.custodian != self._desk.institution:
            raise NotThere
        mandate = self._require_speaker(session, alias)
        call = Grant(
            grant=grant,
            alias=alias,
            institution=bytes.fromhex(body.institution),
            member=bytes.fromhex(body.member) if body.member else b"",
            classes=tuple(sorted(set(body.classes))),
            purpose=body.purpose,
            profile=body.profile,
            from_ms=self._chain.head.header.time_ms if body.from_ms is None else body.from_ms,
            until_ms=body.until_ms,
            uses_max=body.uses_max,
            assurance="custodial",
            mandate=mandate,
            notice_version=body.notice_version,
        )
        receipt = await self._desk.carry_out(call)
        answer = models.GrantAnswer(
            grant=grant.hex(), transaction=receipt.transaction_id.hex(), height=receipt.height
        )
        return build_json(answer, status=201)

    async def handle_list(self, request: web.Request) -> web.StreamResponse:
        check_query(request, "alias")
        session = get_session(request)
        alias = get_query_bytes(request, "alias", 16)
        if alias is None:
            raise BadRequest("bad_parameter", "alias expected", "name the alias")
        row = self._visibility.require_alias(alias)
        found = list_grants(self._chain.state, alias)
        account = session.account
        is_concerned = account.role in ("officer", "clerk") and self._desk.institution in row.audience
        sees_all = (
            is_concerned
            or self._visibility.is_owner(account, alias)
            or self._visibility.is_regulator(account)
        )
        if not sees_all:
            if account.role in ("patient", "representative"):
                raise NotThere
            found = [item for item in found if item[1].institution == self._desk.institution]
            if not found:
                raise NotThere
        time_ms = self._chain.head.header.time_ms
        entries = tuple(describe_grant(grant, item, time_ms) for grant, item in found)
        return build_json(models.GrantsAnswer(grants=entries))

    async def handle_revoke(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        self._rate.take(session.subject.hex())
        grant = get_path_bytes(request, "grant", 16)
        found = get_grant(self._chain.state, grant)
        if found is None:
            raise NotThere
        row = self._visibility.require_alias(found.alias)
        if self._desk.institution not in row.audience:
            raise NotThere
        self._require_speaker(session, found.alias)
        receipt = await self._desk.carry_out(Revoke(grant=grant))
        answer = models.RevokeAnswer(
            grant=grant.hex(), transaction=receipt.transaction_id.hex(), height=receipt.height
        )
        return build_json(answer)

    def _require_speaker(self, session: Session, alias: bytes) -> bytes:
        """The mandate by which the session speaks for the patient, empty for the patient's own or an
        officer's word. Raises NotThere."""
        if session.role == "officer":
            return b""
        if session.role == "representative":
            mandate = self._visibility.find_mandate(session.account, alias)
            if mandate is None:
                raise NotThere
            return mandate
        if not self._visibility.is_owner(session.account, alias):
            raise NotThere
        return b""


def describe_grant(grant: bytes, row: GrantRow, head_time_ms: int) -> models.GrantEntry:
    """The grant as it stands now."""
    time_ms = max(head_time_ms, time.time_ns() // 1_000_000)
    if row.closed_height:
        state = "revoked"
    elif time_ms >= row.until_ms:
        state = "over"
    elif row.is_used_up:
        state = "used_up"
    else:
        state = "not_yet" if time_ms < row.from_ms else "open"
    return models.GrantEntry.model_validate(
        {
            "grant": grant.hex(),
            "alias": row.alias.hex(),
            "institution": row.institution.hex(),
            "member": row.member.hex(),
            "classes": row.classes,
            "purpose": row.purpose,
            "from_ms": row.from_ms,
            "until_ms": row.until_ms,
            "uses_max": row.uses_max,
            "uses": row.uses,
            "state": state,
        }
    )

"""Registration: members, patients and mandates, here and on the ledger.

The account is written before the transaction is sent, and holds only once the ledger says so: a crash between
the two leaves an account that cannot log in, never a handle on the ledger that nobody knows.

Asking again goes on with what was begun (`gateway.account_claims`), whether its transaction has come into a
block meanwhile or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web
from msgspec import Struct

from client import models
from contracts.aliases import get_alias
from contracts.calls.folders import AttestMandate, RegisterAlias
from contracts.calls.registry import RegisterMember, SuspendMember
from contracts.registry import get_member
from gateway.account_claims import AccountClaims
from gateway.accounts import Accounts
from gateway.bodies import build_json, check_query, get_path_bytes, read_json_body
from gateway.desk import Desk
from gateway.errors import BadRequest, InConflict, NotThere
from gateway.operations import Operation
from gateway.settings import GatewaySettings
from gateway.visibility import Visibility
from ledger.chain import Chain


class Registration:
    """Operations of officers and clerks on accounts."""

    def __init__(
        self,
        *,
        chain: Chain,
        desk: Desk,
        accounts: Accounts,
        visibility: Visibility,
        settings: GatewaySettings,
    ) -> None:
        self._chain = chain
        self._desk = desk
        self._accounts = accounts
        self._visibility = visibility
        self._settings = settings
        self._claims = AccountClaims(chain, accounts)

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/members",
                handler=self.handle_member,
                summary="Register a member here and, by a random handle, on the ledger.",
                roles=("officer",),
                request=models.MemberRequest,
                answer=models.MemberAnswer,
                status=201,
            ),
            Operation(
                method="POST",
                path="/v1/members/{member}/suspend",
                handler=self.handle_suspend,
                summary="Close a member's account at once and suspend the handle with the next block.",
                roles=("officer",),
                request=models.SuspendMemberRequest,
                answer=models.MemberAnswer,
            ),
            Operation(
                method="POST",
                path="/v1/patients",
                handler=self.handle_patient,
                summary="Open a patient's folder here under a fresh alias on the ledger.",
                roles=("officer", "clerk"),
                request=models.PatientRequest,
                answer=models.PatientAnswer,
                status=201,
            ),
            Operation(
                method="POST",
                path="/v1/patients/{subject}/aliases",
                handler=self.handle_link,
                summary="At the custodian: another institution's alias is this patient's.",
                roles=("officer",),
                request=models.LinkAliasRequest,
                status=204,
            ),
            Operation(
                method="POST",
                path="/v1/mandates",
                handler=self.handle_mandate,
                summary="Attest that a representative may speak for a patient.",
                roles=("officer",),
                request=models.MandateRequest,
                answer=models.MandateAnswer,
                status=201,
            ),
        )

    async def handle_member(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        body = await read_json_body(request, models.MemberRequest, settings=self._settings)
        member = (await self._claims.claim_account(body.role, bytes.fromhex(body.public_key))).subject
        digest = await self._claims.keep_evidence(member, body.evidence)
        transaction = ""
        if body.role != "operator":
            call = RegisterMember(member=member, role=body.role, evidence=digest)
            transaction = await self._register(
                call, lambda: get_member(self._chain.state, member) is not None
            )
        return build_json(models.MemberAnswer(member=member.hex(), transaction=transaction), status=201)

    async def handle_suspend(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        member = get_path_bytes(request, "member", 16)
        body = await read_json_body(request, models.SuspendMemberRequest, settings=self._settings)
        account = await asyncio.to_thread(self._accounts.get, member)
        if account is None or account.role in ("patient", "representative"):
            raise NotThere
        await asyncio.to_thread(self._accounts.put, msgspec.structs.replace(account, is_closed=True))
        transaction = ""
        if get_member(self._chain.state, member) is not None:
            receipt = await self._desk.carry_out(SuspendMember(member=member, reason=body.reason))
            transaction = receipt.transaction_id.hex()
        return build_json(models.MemberAnswer(member=member.hex(), transaction=transaction))

    async def handle_patient(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        body = await read_json_body(request, models.PatientRequest, settings=self._settings)
        if body.possession is not None and body.public_key is None:
            raise BadRequest(
                "bad_field", "possession without public_key found", "send the patient's public key"
            )
        public_key = b"" if body.public_key is None else bytes.fromhex(body.public_key)
        account = await self._claims.claim_patient(body.patient, public_key)
        alias = account.aliases[0]
        call = RegisterAlias(
            alias=alias,
            custodian=bytes.fromhex(body.custodian) if body.custodian else self._desk.institution,
            patient_key=b"" if body.possession is None else account.public_key,
            credential=b"",
            possession=b"" if body.possession is None else bytes.fromhex(body.possession),
        )
        try:
            transaction = await self._register(call, lambda: self._is_own_alias(alias))
        except InConflict:
            await asyncio.to_thread(self._accounts.release_patient, body.patient)
            raise
        answer = models.PatientAnswer(
            alias=alias.hex(), subject=account.subject.hex(), transaction=transaction
        )
        return build_json(answer, status=201)

    async def handle_link(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        subject = get_path_bytes(request, "subject", 16)
        body = await read_json_body(request, models.LinkAliasRequest, settings=self._settings)
        alias = bytes.fromhex(body.alias)
        if self._visibility.require_alias(alias).custodian != self._desk.institution:
            raise NotThere
        await self._claims.add_alias(subject, alias)
        return web.Response(status=204)

    async def handle_mandate(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        body = await read_json_body(request, models.MandateRequest, settings=self._settings)
        alias = bytes.fromhex(body.alias)
        if self._visibility.require_alias(alias).custodian != self._desk.institution:
            raise NotThere
        scope = tuple(sorted(body.scope))
        representative, mandate = await self._claims.claim_mandate(body)
        call = AttestMandate(
            mandate=mandate,
            alias=alias,
            representative=representative,
            scope=scope,
            evidence=await self._claims.keep_evidence(mandate, body.evidence),
            from_ms=self._chain.head.header.time_ms if body.from_ms is None else body.from_ms,
            until_ms=body.until_ms,
        )
        transaction = await self._register(call, lambda: self._claims.is_attested(mandate, alias, scope))
        answer = models.MandateAnswer(
            mandate=mandate.hex(), representative=representative.hex(), transaction=transaction
        )
        return build_json(answer, status=201)

    def _is_own_alias(self, alias: bytes) -> bool:
        """Whether the ledger has it as this institution's: another may have been the first to use the id."""
        row = get_alias(self._chain.state, alias)
        return row is not None and row.holder == self._desk.institution

    async def _register(self, call: Struct, is_there: Callable[[], bool]) -> str:
        """The transaction that registers; empty when an earlier request's has done it. Raises InConflict."""
        if is_there():
            return ""
        try:
            return (await self._desk.carry_out(call)).transaction_id.hex()
        except InConflict:
            if is_there():
                return ""
            raise

"""Registration: members, patients and mandates, here and on the ledger.

The account is written before the transaction is sent, and holds only once the ledger says so: a crash between
the two leaves an account that cannot log in, never a handle on the ledger that nobody knows.

Asking again with the same key goes on with the account that was begun, whether its transaction has come into
a block meanwhile or not: an answer that got lost costs nobody their account.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256

import msgspec
from aiohttp import web
from msgspec import Struct

from client import models
from client.signing import draw_identifier
from contracts.aliases import get_alias
from contracts.calls.fields import RecordClass
from contracts.calls.folders import AttestMandate, RegisterAlias
from contracts.calls.registry import RegisterMember, SuspendMember
from contracts.mandates import get_mandate
from contracts.registry import get_member
from gateway.accounts import Account, Accounts
from gateway.bodies import build_json, check_query, get_path_bytes, read_json_body
from gateway.desk import Desk
from gateway.errors import BadRequest, InConflict, NotThere
from gateway.operations import Operation
from gateway.settings import GatewaySettings
from gateway.visibility import Visibility
from ledger.chain import Chain

ALIASES_PER_PATIENT_MAX = 64
MANDATES_PER_REPRESENTATIVE_MAX = 64


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
        self._account_lock = asyncio.Lock()
        """Held while an account is read, changed and written."""

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
        member = (await self._claim_account(body.role, bytes.fromhex(body.public_key))).subject
        digest = await self._keep_evidence(member, body.evidence)
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
        if body.own_key and body.public_key is None:
            raise BadRequest("bad_field", "own_key without public_key found", "send the patient's public key")
        account = await self._claim_patient(body)
        alias = account.aliases[0]
        call = RegisterAlias(
            alias=alias,
            custodian=bytes.fromhex(body.custodian) if body.custodian else self._desk.institution,
            patient_key=account.public_key if body.own_key else b"",
            credential=b"",
        )
        try:
            transaction = await self._register(call, lambda: get_alias(self._chain.state, alias) is not None)
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
        async with self._account_lock:
            account = await asyncio.to_thread(self._accounts.get, subject)
            if account is None or account.role != "patient":
                raise NotThere
            aliases = tuple(dict.fromkeys((*account.aliases, alias)))
            _check_count(aliases, ALIASES_PER_PATIENT_MAX, "aliases of one patient")
            await asyncio.to_thread(self._accounts.put, msgspec.structs.replace(account, aliases=aliases))
        return web.Response(status=204)

    async def handle_mandate(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        body = await read_json_body(request, models.MandateRequest, settings=self._settings)
        alias = bytes.fromhex(body.alias)
        if self._visibility.require_alias(alias).custodian != self._desk.institution:
            raise NotThere
        scope = tuple(sorted(body.scope))
        representative, mandate = await self._add_mandate(body)
        call = AttestMandate(
            mandate=mandate,
            alias=alias,
            representative=representative,
            scope=scope,
            evidence=await self._keep_evidence(mandate, body.evidence),
            from_ms=self._chain.head.header.time_ms if body.from_ms is None else body.from_ms,
            until_ms=body.until_ms,
        )
        transaction = await self._register(call, lambda: self._is_attested(mandate, alias, scope))
        answer = models.MandateAnswer(
            mandate=mandate.hex(), representative=representative.hex(), transaction=transaction
        )
        return build_json(answer, status=201)

    async def _claim_patient(self, body: models.PatientRequest) -> Account:
        """The patient's account: new, or begun by an earlier request. Raises InConflict.

        One whose alias never reached the ledger takes the key that is sent now.
        """
        public_key = b"" if body.public_key is None else bytes.fromhex(body.public_key)
        account = Account(
            subject=draw_identifier(),
            role="patient",
            public_key=public_key,
            aliases=(draw_identifier(),),
        )
        await asyncio.to_thread(self._accounts.put, account)
        holder = await asyncio.to_thread(self._accounts.claim_patient, body.patient, account.subject)
        if holder is None:
            return account
        earlier = await asyncio.to_thread(self._accounts.get, holder)
        if earlier is not None and get_alias(self._chain.state, earlier.aliases[0]) is None:
            earlier = msgspec.structs.replace(earlier, public_key=public_key)
            await asyncio.to_thread(self._accounts.put, earlier)
            return earlier
        if earlier is not None and public_key and public_key == earlier.public_key:
            return earlier
        found = earlier.aliases[0].hex() if earlier is not None else "unknown"
        raise InConflict(
            "patient_exists", f"this patient has the alias {found} already", "use the existing alias"
        )

    async def _claim_account(self, role: models.Role, public_key: bytes) -> Account:
        """The account that logs in with this key: new, or begun by an earlier request. Raises InConflict."""
        subject = await asyncio.to_thread(self._accounts.claim_key, public_key, draw_identifier())
        account = await asyncio.to_thread(self._accounts.get, subject)
        if account is None:
            account = Account(subject=subject, role=role, public_key=public_key)
            await asyncio.to_thread(self._accounts.put, account)
        elif account.role != role or account.is_closed:
            raise InConflict("key_in_use", "this key has another account here", "make a new key")
        return account

    async def _keep_evidence(self, handle: bytes, evidence: str) -> bytes:
        """The digest that commits to it; what an earlier request for this handle brought stays."""
        kept = await asyncio.to_thread(
            self._accounts.keep_evidence, handle, secrets.token_bytes(32), evidence.encode()
        )
        return compute_salted_digest(*kept)

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

    def _is_attested(self, mandate: bytes, alias: bytes, scope: tuple[RecordClass, ...]) -> bool:
        row = get_mandate(self._chain.state, mandate)
        return row is not None and (row.alias, row.scope, row.state) == (alias, scope, "active")

    def _find_begun_mandate(self, account: Account, body: models.MandateRequest) -> bytes | None:
        """A mandate of this account that an earlier request like this one began, or None."""
        alias, scope = bytes.fromhex(body.alias), tuple(sorted(body.scope))
        for mandate in account.mandates:
            kept = self._accounts.get_evidence(mandate)
            if kept is None or kept[1] != body.evidence.encode():
                continue
            if get_mandate(self._chain.state, mandate) is None or self._is_attested(mandate, alias, scope):
                return mandate
        return None

    async def _add_mandate(self, body: models.MandateRequest) -> tuple[bytes, bytes]:
        """Note a mandate with its representative's account: the account's id and the mandate's."""
        async with self._account_lock:
            if body.representative is None:
                assert body.public_key is not None, "the model requires one of the two"
                account = await self._claim_account("representative", bytes.fromhex(body.public_key))
                begun = await asyncio.to_thread(self._find_begun_mandate, account, body)
                if begun is not None:
                    return account.subject, begun
            else:
                found = await asyncio.to_thread(self._accounts.get, bytes.fromhex(body.representative))
                if found is None or found.role != "representative":
                    raise NotThere
                account = found
            mandate = draw_identifier()
            mandates = (*account.mandates, mandate)
            _check_count(mandates, MANDATES_PER_REPRESENTATIVE_MAX, "mandates of one representative")
            await asyncio.to_thread(self._accounts.put, msgspec.structs.replace(account, mandates=mandates))
        return account.subject, mandate


def compute_salted_digest(salt: bytes, text: bytes) -> bytes:
    """What the ledger gets of evidence that stays here: HMAC-SHA256 under a random salt."""
    return hmac.digest(salt, text, sha256)


def _check_count(found: tuple[bytes, ...], count_max: int, what: str) -> None:
    if len(found) > count_max:
        raise InConflict("too_many", f"{len(found)} {what} found, at most {count_max} allowed", "remove some")

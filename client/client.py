"""`Client`: everything that a gateway offers, typed.

    async with Client("https://127.0.0.1:8443", ca_file=Path("ca.pem")) as client:
        await client.login(key, subject)
        answer = await client.read_records(alias=…, classes=("laboratory_reports",), reason="ward round")

Reads of the ledger take `min_height`, the height of a receipt that the answer must not be older than: the
gateway waits for its head to get there, and refuses with 503 `height_not_reached` when it does not in time.

Refusals raise `client.errors.Refused`; an answer that is not what the protocol says raises AnswerRejected.
Proof files are plain bytes: `ledger.proofs` verifies them without any node.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgpack
from pydantic import BaseModel, ValidationError

from client import models
from client.errors import AnswerRejected, NotCommitted, Refused
from client.transport import ModelT, Parameters, Transport
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.transaction import SignedTransaction, encode_transaction

WAIT_MS_MAX: Final = 10_000
"""The longest that one request for a transaction's end may wait at the gateway."""


def compute_login_bytes(challenge: bytes, audience: str, subject: str) -> bytes:
    """What a login signs under the tag LOGIN_CHALLENGE."""
    return encode((challenge, audience, subject))


class Client:
    """One gateway, and after `login` one account there. Use it as an async context manager."""

    def __init__(
        self, gateway_url: str, ca_file: Path | None = None, *, timeout_seconds: float = 30.0
    ) -> None:
        self._transport = Transport(gateway_url, ca_file=ca_file, timeout_seconds=timeout_seconds)
        self.gateway_url = self._transport.gateway_url

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.close()

    # --- the node and its ledger ---------------------------------------------------------------------------

    async def get_status(self) -> models.StatusAnswer:
        return await self._get("/v1/status", models.StatusAnswer)

    async def is_ready(self) -> bool:
        status, _ = await self._transport.exchange("GET", "/readyz")
        return status == 200

    async def list_institutions(
        self, *, min_height: int | None = None
    ) -> tuple[models.InstitutionAnswer, ...]:
        parameters = _build_parameters(min_height=min_height)
        return (await self._get("/v1/institutions", models.InstitutionsAnswer, parameters)).institutions

    async def get_governance(self, *, min_height: int | None = None) -> models.GovernanceAnswer:
        """Nodes, replica set and proposals; changes are transactions of `contracts.calls.governance`."""
        parameters = _build_parameters(min_height=min_height)
        return await self._get("/v1/governance", models.GovernanceAnswer, parameters)

    async def get_block(self, height: int, *, min_height: int | None = None) -> models.BlockAnswer:
        parameters = _build_parameters(min_height=min_height)
        return await self._get(f"/v1/blocks/{height}", models.BlockAnswer, parameters)

    async def submit(
        self, transactions: Sequence[SignedTransaction | bytes]
    ) -> tuple[models.SubmissionResult, ...]:
        """One result for each, in order; a refused one does not raise. At most 1,000 at once.

        Raises Refused when the request as a whole was refused.
        """
        signed = [item if isinstance(item, bytes) else encode_transaction(item) for item in transactions]
        status, data = await self._transport.exchange(
            "POST", "/v1/transactions", body=msgpack.packb(signed), content_type="application/msgpack"
        )
        try:
            if status == 202:
                return models.SubmitAnswer.model_validate_json(data).results
            if b'"results"' in data:
                return models.SubmitProblem.model_validate_json(data).results
            problem = models.Problem.model_validate_json(data)
        except ValidationError as error:
            raise AnswerRejected(f"{self.gateway_url}/v1/transactions: {error}") from error
        raise Refused(status, problem.code, problem.message, problem.what_to_do)

    async def get_transaction(self, transaction_id: str, *, wait_ms: int = 0) -> models.TransactionAnswer:
        """How it ended, waiting up to `wait_ms` (at most 10,000) while it is pending."""
        parameters = {"wait_ms": str(wait_ms)} if wait_ms else None
        return await self._get(f"/v1/transactions/{transaction_id}", models.TransactionAnswer, parameters)

    async def wait_for_receipt(
        self, transaction_id: str, *, timeout_ms: int = 30_000
    ) -> models.TransactionAnswer:
        """The committed end. Raises NotCommitted when it failed, expired, or is not there in time."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            answer = await self.get_transaction(transaction_id, wait_ms=min(left_ms, WAIT_MS_MAX))
            if answer.end == "committed":
                return answer
            if answer.end not in ("pending", "unknown") or time.monotonic() >= deadline:
                raise NotCommitted(transaction_id, answer.end, answer.code)

    async def submit_and_wait(
        self, transaction: SignedTransaction, *, timeout_ms: int = 30_000
    ) -> models.TransactionAnswer:
        """Raises Refused when it is not accepted and NotCommitted when it does not commit."""
        (result,) = await self.submit([transaction])
        if result.code not in ("accepted", "duplicate", "already_committed"):
            raise Refused(409, result.code, result.message or f"transaction {result.id} was refused")
        return await self.wait_for_receipt(transaction.transaction_id.hex(), timeout_ms=timeout_ms)

    async def get_receipt_proof(self, transaction_id: str, *, min_height: int | None = None) -> bytes:
        """The receipt file that `ledger.proofs` verifies offline."""
        parameters = _build_parameters(min_height=min_height)
        return await self._transport.request_bytes(
            "GET", f"/v1/receipts/{transaction_id}/proof", parameters=parameters
        )

    async def get_state_proof(
        self, key: bytes, *, height: int | None = None, min_height: int | None = None
    ) -> bytes:
        """Presence or absence of the row under the full state key, as a file."""
        parameters = _build_parameters(key=key.hex(), height=height, min_height=min_height)
        return await self._transport.request_bytes("GET", "/v1/state/proof", parameters=parameters)

    async def get_grant_proof(
        self, alias: str, *, institution: str, member: str | None = None, min_height: int | None = None
    ) -> bytes:
        """The row that lists all grants of `alias` to this grantee, or its absence, as a state proof file.

        The row is never deleted: it answers for every height up to that of the proof.
        """
        parameters = _build_parameters(institution=institution, member=member, min_height=min_height)
        return await self._transport.request_bytes(
            "GET", f"/v1/folders/{alias}/grants/proof", parameters=parameters
        )

    # --- login and accounts --------------------------------------------------------------------------------

    async def login(self, key: SigningKey, subject: str) -> models.LoginAnswer:
        """Prove that `key` is the account's; later requests carry the token, for at most 15 minutes."""
        challenge = await self._post(
            "/v1/login/challenge", models.ChallengeAnswer, models.ChallengeRequest(subject=subject)
        )
        if challenge.audience != self.gateway_url:
            # A gateway that hands on another one's challenge could log in there as us.
            raise AnswerRejected(
                f"{self.gateway_url}: audience {challenge.audience} found; "
                "use that URL if it is the same gateway"
            )
        message = compute_login_bytes(bytes.fromhex(challenge.challenge), challenge.audience, subject)
        request = models.LoginRequest(
            subject=subject,
            challenge=challenge.challenge,
            signature=key.sign(tags.LOGIN_CHALLENGE, message).hex(),
        )
        answer = await self._post("/v1/login", models.LoginAnswer, request)
        self._transport.access_token = answer.access_token
        return answer

    async def logout(self) -> None:
        """Revoke the token."""
        await self._transport.request_bytes("POST", "/v1/logout")
        self._transport.access_token = None

    async def register_member(
        self,
        *,
        role: Literal["clinician", "clerk", "officer", "auditor", "operator"],
        public_key: bytes,
        evidence: str,
    ) -> models.MemberAnswer:
        request = models.MemberRequest(role=role, public_key=public_key.hex(), evidence=evidence)
        return await self._post("/v1/members", models.MemberAnswer, request)

    async def suspend_member(self, member: str, *, reason: str) -> models.MemberAnswer:
        """The account is closed at once and the handle with the next block."""
        request = models.SuspendMemberRequest(reason=reason)
        return await self._post(f"/v1/members/{member}/suspend", models.MemberAnswer, request)

    async def register_patient(
        self,
        patient: str,
        *,
        custodian: str | None = None,
        public_key: bytes | None = None,
        possession: bytes | None = None,
    ) -> models.PatientAnswer:
        """`possession`, of `sign_patient_key`, puts the patient's key on the ledger, too."""
        request = models.PatientRequest(
            patient=patient,
            custodian=custodian,
            public_key=None if public_key is None else public_key.hex(),
            possession=None if possession is None else possession.hex(),
        )
        return await self._post("/v1/patients", models.PatientAnswer, request)

    async def link_alias(self, subject: str, alias: str) -> None:
        """At the custodian: another institution's alias belongs to this patient's account."""
        request = models.LinkAliasRequest(alias=alias)
        await self._transport.request_bytes("POST", f"/v1/patients/{subject}/aliases", body=request)

    async def attest_mandate(self, request: models.MandateRequest) -> models.MandateAnswer:
        return await self._post("/v1/mandates", models.MandateAnswer, request)

    # --- folders, reading, grants --------------------------------------------------------------------------

    async def store_bundle(self, alias: str, bundle: bytes) -> models.BundleAnswer:
        """Seal and anchor every entry of a FHIR R4 bundle, or none of them."""
        return await self._transport.request(
            "POST",
            f"/v1/folders/{alias}/bundles",
            models.BundleAnswer,
            body=bundle,
            content_type="application/fhir+json",
        )

    async def get_folder(self, alias: str, *, min_height: int | None = None) -> models.FolderAnswer:
        parameters = _build_parameters(min_height=min_height)
        return await self._get(f"/v1/folders/{alias}", models.FolderAnswer, parameters)

    async def read_records(
        self,
        *,
        alias: str,
        classes: Sequence[str],
        reason: str,
        grant: str | None = None,
        purpose: str = "care",
    ) -> models.ReadAnswer:
        """Ask, be recorded, and read. Raises Refused 404 when refused, the same as when nothing is there."""
        request = models.ReadRequest.model_validate(
            {"alias": alias, "classes": tuple(classes), "purpose": purpose, "grant": grant, "reason": reason}
        )
        return await self._post("/v1/reads", models.ReadAnswer, request)

    async def create_grant(self, request: models.GrantRequest) -> models.GrantAnswer:
        return await self._post("/v1/grants", models.GrantAnswer, request)

    async def revoke_grant(self, grant: str) -> models.RevokeAnswer:
        return await self._transport.request("DELETE", f"/v1/grants/{grant}", models.RevokeAnswer)

    async def list_grants(
        self, alias: str, *, min_height: int | None = None
    ) -> tuple[models.GrantEntry, ...]:
        parameters = _build_parameters(alias=alias, min_height=min_height)
        return (await self._get("/v1/grants", models.GrantsAnswer, parameters)).grants

    # --- audit and events ----------------------------------------------------------------------------------

    async def get_audit_trail(self, alias: str, *, min_height: int | None = None) -> models.TrailAnswer:
        parameters = _build_parameters(min_height=min_height)
        return await self._get(f"/v1/audit/folders/{alias}", models.TrailAnswer, parameters)

    async def get_statistics(self, *, min_height: int | None = None) -> models.StatisticsAnswer:
        parameters = _build_parameters(min_height=min_height)
        return await self._get("/v1/audit/statistics", models.StatisticsAnswer, parameters)

    async def list_alerts(
        self, *, open_only: bool = False, min_height: int | None = None
    ) -> tuple[models.AlertEntry, ...]:
        parameters = _build_parameters(open="true" if open_only else None, min_height=min_height)
        return (await self._get("/v1/audit/alerts", models.AlertsAnswer, parameters)).alerts

    async def acknowledge_alert(self, alert: str) -> models.AcknowledgeAnswer:
        return await self._transport.request(
            "POST", f"/v1/audit/alerts/{alert}/acknowledge", models.AcknowledgeAnswer
        )

    async def events(self, *, after_height: int | None = None) -> AsyncIterator[models.EventAnswer]:
        """Events as blocks commit, scoped by role; with `after_height` those since then first."""
        headers = {} if after_height is None else {"Last-Event-ID": str(after_height)}
        async for line in self._transport.stream_lines("/v1/events", headers):
            if not line.startswith("data:"):
                continue
            try:
                yield models.EventAnswer.model_validate_json(line.removeprefix("data:").strip())
            except ValidationError as error:
                raise AnswerRejected(f"{self.gateway_url}/v1/events: {error}") from error

    async def get_openapi(self) -> dict[str, object]:
        """The gateway's own description of its interface."""
        data = await self._transport.request_bytes("GET", "/openapi.json")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise AnswerRejected(f"{self.gateway_url}/openapi.json: no JSON document found") from error
        if not isinstance(document, dict):
            raise AnswerRejected(f"{self.gateway_url}/openapi.json: a JSON object expected")
        return document

    async def _get(self, path: str, answer: type[ModelT], parameters: Parameters | None = None) -> ModelT:
        return await self._transport.request("GET", path, answer, parameters=parameters)

    async def _post(self, path: str, answer: type[ModelT], body: BaseModel) -> ModelT:
        return await self._transport.request("POST", path, answer, body=body)


def _build_parameters(**values: str | int | None) -> Parameters:
    """Query parameters without those that are not given."""
    return {name: str(value) for name, value in values.items() if value is not None}

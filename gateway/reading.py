"""The requester's side of reading: log first, then fetch, then check, then hand over, then tell the outcome.

Plaintext lives in this process's memory for the time of the request and nowhere else. A refusal looks the
same as an alias that does not exist; what was refused and why is on the ledger.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web

from client import models
from contracts.aliases import get_alias
from contracts.calls.authorization import ANCHORS_PER_REQUEST_MAX, Authorize, Outcome, ReportOutcome
from contracts.calls.monitoring import ReportMismatch
from contracts.evidence import AnchorRow, get_anchor, get_record, list_anchors, list_records
from contracts.grants import list_live_grants
from contracts.registry import InstitutionRow, get_institution
from crypto import tags
from crypto.encoding import EncodingError, decode, encode
from crypto.hazmat.aead import DecryptionError
from crypto.hazmat.hpke import RecipientKey
from crypto.signatures import InvalidSignature
from gateway.authentication import Session, get_session
from gateway.bodies import check_query, read_json_body
from gateway.delivery import (
    AccessDetails,
    Copies,
    Copy,
    TicketRequest,
    compute_commitment,
    compute_details_digest,
    compute_request_bytes,
    open_delivery,
)
from gateway.desk import Desk, require_ok
from gateway.errors import CopyRejected, InConflict, NotThere, Refusal
from gateway.holders import Holders, RecordAlteredThere
from gateway.operations import Operation
from gateway.rates import RateLimit
from gateway.serving import Serving, is_included
from gateway.settings import GatewaySettings
from ledger.chain import Chain
from vault.vault import Vault

RESULT_BYTES_MAX = 4_096

_log = structlog.get_logger("gateway.reading")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """An allowed request: its ticket, and what only this gateway knows about it."""

    ticket: bytes
    height: int
    alias: bytes
    anchors: tuple[bytes, ...]
    holder: InstitutionRow
    recipient: RecipientKey
    details: bytes
    salt: bytes


class BadCopy(Exception):
    """A copy that does not verify; `record` may be empty when none can be named."""

    def __init__(self, finding: str, *, anchor: bytes = b"", record: bytes = b"") -> None:
        super().__init__(finding)
        self.finding = finding
        self.anchor = anchor
        self.record = record


class Reading:
    """Reads for this institution's clinicians."""

    def __init__(
        self,
        *,
        chain: Chain,
        vault: Vault,
        desk: Desk,
        serving: Serving,
        holders: Holders,
        rate: RateLimit,
        settings: GatewaySettings,
    ) -> None:
        self._chain = chain
        self._desk = desk
        self._serving = serving
        self._holders = holders
        self._rate = rate
        self._settings = settings
        self._details = vault.table("asked_details")

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/reads",
                handler=self.handle_read,
                summary="Ask to read classes of an alias: recorded, fetched from the holder, checked.",
                roles=("clinician",),
                request=models.ReadRequest,
                answer=models.ReadAnswer,
            ),
        )

    async def handle_read(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        self._rate.take(session.subject.hex())
        body = await read_json_body(request, models.ReadRequest, settings=self._settings)
        allowed, left_out = await self._authorize(session, body)
        outcome: Outcome = "failed"
        try:
            copies = await self._fetch(allowed)
            records = self._build_records(allowed, copies)
            outcome = "delivered"
        finally:
            outcome_transaction = await self._report_outcome(allowed, outcome)
        answer = models.ReadAnswer(
            ticket=allowed.ticket.hex(),
            height=allowed.height,
            records=records,
            outcome=outcome,
            outcome_transaction=outcome_transaction.hex(),
            anchors_left_out=left_out,
        )
        data = await asyncio.to_thread(lambda: answer.model_dump_json().encode())
        return web.Response(body=data, content_type="application/json")

    # Asking

    async def _authorize(self, session: Session, body: models.ReadRequest) -> tuple[Allowed, int]:
        """Put the request on the ledger; the ticket, and how many anchors did not fit into it.

        Raises NotThere when it was refused there.
        """
        alias, classes = bytes.fromhex(body.alias), tuple(sorted(set(body.classes)))
        found = [anchor for anchor, _ in list_anchors(self._chain.state, alias, classes)]
        anchors = tuple(found[:ANCHORS_PER_REQUEST_MAX])
        recipient, salt = RecipientKey(), secrets.token_bytes(32)
        details = encode(
            AccessDetails(
                member=session.subject,
                session=session.token_id,
                reason=body.reason,
                time_ms=self._chain.head.header.time_ms,
            )
        )
        transaction = self._desk.sign(
            Authorize(
                alias=alias,
                grant=self._choose_grant(session, body, alias, classes),
                anchors=anchors,
                purpose=body.purpose,
                member=session.subject,
                ephemeral_key=recipient.public_key,
                details=compute_details_digest(salt, details),
            )
        )
        await asyncio.to_thread(self._details.put, transaction.transaction_id, encode((salt, details)))
        await self._desk.send(transaction)
        receipt = await self._desk.wait(transaction)
        require_ok(receipt)
        row = get_alias(self._chain.state, alias)
        if decode(receipt.results[0], size_max=RESULT_BYTES_MAX) != ("allowed",) or row is None:
            raise NotThere
        holder = get_institution(self._chain.state, row.holder)
        assert holder is not None, "an alias without its holder"
        allowed = Allowed(
            ticket=transaction.transaction_id,
            height=receipt.height,
            alias=alias,
            anchors=anchors,
            holder=holder,
            recipient=recipient,
            details=details,
            salt=salt,
        )
        return allowed, len(found) - len(anchors)

    def _choose_grant(
        self, session: Session, body: models.ReadRequest, alias: bytes, classes: Sequence[str]
    ) -> bytes:
        """The grant named, or a live one that covers the request, or none: then the ledger refuses."""
        if body.grant is not None:
            return bytes.fromhex(body.grant)
        live = list_live_grants(
            self._chain.state,
            alias=alias,
            institution=self._desk.institution,
            member=session.subject,
            time_ms=self._chain.head.header.time_ms,
        )
        covering = [
            grant for grant, row in live if row.purpose == body.purpose and set(classes) <= set(row.classes)
        ]
        candidates = covering or [grant for grant, _ in live]
        return candidates[0] if candidates else b""

    # Fetching and checking

    async def _fetch(self, allowed: Allowed) -> Copies:
        """The copies, opened. Raises Refusal."""
        holder = allowed.holder
        message = compute_request_bytes(
            chain_id=self._chain.chain_id,
            ticket=allowed.ticket,
            holder=holder.institution,
            height=allowed.height,
            details=allowed.details,
            salt=allowed.salt,
        )
        request = TicketRequest(
            institution=self._desk.institution,
            height=allowed.height,
            details=allowed.details,
            salt=allowed.salt,
            signature=self._desk.key.sign(tags.TICKET_REQUEST, message),
        )
        if holder.institution == self._desk.institution:
            try:
                delivery = await self._serving.serve(allowed.ticket, request)
            except InConflict as refusal:
                raise RecordAlteredThere(refusal.code, refusal.message, refusal.what_to_do) from None
        else:
            delivery = await self._holders.fetch(holder, allowed.ticket, request)
        try:
            copies = await asyncio.to_thread(
                open_delivery,
                delivery,
                recipient=allowed.recipient,
                chain_id=self._chain.chain_id,
                ticket=allowed.ticket,
                holder=holder.institution,
                holder_key=holder.public_key,
            )
            commitments = await asyncio.to_thread(_compute_commitments, copies)
            self._check_copies(allowed, copies, commitments)
        except (InvalidSignature, DecryptionError, EncodingError) as error:
            raise CopyRejected(
                "copy_rejected", f"the holder's answer: {type(error).__name__}", "tell the holder"
            ) from None
        except BadCopy as bad:
            await self._report_mismatch(allowed, bad)
            raise CopyRejected(
                "copy_rejected",
                f"the holder's copies: {bad.finding}",
                "nothing was handed over; the alert is on the ledger",
            ) from None
        return copies

    def _check_copies(self, allowed: Allowed, copies: Copies, commitments: Sequence[bytes]) -> None:
        """Every copy is under its anchor and opens its commitment, and none is left out. Raises BadCopy."""
        state = self._chain.state
        served: dict[bytes, set[bytes]] = {anchor: set() for anchor in allowed.anchors}
        for copy, commitment in zip(copies.copies, commitments, strict=True):
            anchored = get_anchor(state, allowed.alias, copy.anchor)
            records = served.get(copy.anchor)
            if anchored is None or records is None or copy.leaf.record in records:
                raise BadCopy("not_asked_for")
            row = get_record(state, allowed.alias, copy.anchor, copy.leaf.record)
            is_current = is_included(copy, anchored) if row is None else copy.leaf == row.leaf
            if not is_current or copy.record_class != anchored.record_class:
                raise BadCopy("not_in_anchor", anchor=copy.anchor, record=copy.leaf.record)
            if commitment != copy.leaf.commitment:
                raise BadCopy("commitment_mismatch", anchor=copy.anchor, record=copy.leaf.record)
            records.add(copy.leaf.record)
        for anchor, records in served.items():
            anchored = get_anchor(state, allowed.alias, anchor)
            assert anchored is not None, "the ledger allowed an anchor that is not there"
            changed = list_records(state, allowed.alias, anchor)
            withdrawn = {record for record, row in changed if row.is_withdrawn}
            if len(records | withdrawn) < anchored.count:
                raise BadCopy("missing", anchor=anchor, record=anchor)

    def _build_records(self, allowed: Allowed, copies: Copies) -> tuple[models.ReadRecord, ...]:
        return tuple(
            _describe_copy(allowed, copy, get_anchor(self._chain.state, allowed.alias, copy.anchor))
            for copy in copies.copies
        )

    # Telling

    async def _report_outcome(self, allowed: Allowed, outcome: Outcome) -> bytes:
        """The transaction that tells the outcome; sent, not waited for."""
        transaction = self._desk.sign(
            ReportOutcome(alias=allowed.alias, height=allowed.height, ticket=allowed.ticket, outcome=outcome)
        )
        try:
            await self._desk.send(transaction)
        except Refusal as refusal:
            # The ledger notices the silence by itself and raises an alert.
            _log.warning("outcome not told", ticket=allowed.ticket.hex(), code=refusal.code)
        return transaction.transaction_id

    async def _report_mismatch(self, allowed: Allowed, bad: BadCopy) -> None:
        if not bad.record:
            return
        call = ReportMismatch(alias=allowed.alias, anchor=bad.anchor, record=bad.record, finding=bad.finding)
        try:
            await self._desk.carry_out(call)
        except Refusal as refusal:
            _log.warning("mismatch not reported", record=bad.record.hex(), code=refusal.code)


def _compute_commitments(copies: Copies) -> list[bytes]:
    """Blocking for large copies: what each one's bytes commit to under its salt."""
    return [compute_commitment(copy.salt, copy.content) for copy in copies.copies]


def _describe_copy(allowed: Allowed, copy: Copy, anchored: AnchorRow | None) -> models.ReadRecord:
    assert anchored is not None, "the copy was checked against this anchor"
    return models.ReadRecord(
        record=copy.leaf.record.hex(),
        version=copy.leaf.version,
        record_class=copy.record_class,
        media_type=copy.media_type,
        content=base64.b64encode(copy.content).decode(),
        checks=models.RecordChecks(
            anchored_height=anchored.height,
            commitment=copy.leaf.commitment.hex(),
            holder=allowed.holder.institution.hex(),
            holder_signature=True,
            inclusion=True,
            commitment_opened=True,
        ),
    )

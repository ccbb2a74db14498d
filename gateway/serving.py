"""The holder's side of reading: a ticket is checked against this node's own ledger, then copies are sealed.

Nothing that the requester says is believed but its signature: what is asked for, by whom, when and for which
key stands in the certified receipt here. A revocation, suspension or freeze after the ticket ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

from contracts.accesses import AccessRow, get_access
from contracts.aliases import get_alias
from contracts.calls.authorization import Authorize
from contracts.calls.monitoring import ReportMismatch
from contracts.evidence import AnchorRow, RecordRow, get_anchor, list_records
from contracts.grants import get_grant
from contracts.mandates import get_mandate
from contracts.parameters import get_parameters
from contracts.registry import get_institution, get_member
from crypto import tags
from crypto.encoding import decode_as, encode
from crypto.merkle import ProofError, verify_inclusion
from crypto.signatures import InvalidSignature, verify_signature
from gateway.bodies import check_media_type, check_query, get_path_bytes, read_body
from gateway.delivery import (
    DELIVERY_TYPE,
    REQUEST_BYTES_MAX,
    Copies,
    Copy,
    Delivery,
    TicketRequest,
    compute_details_digest,
    compute_request_bytes,
    read_ticket_request,
    seal_copies,
)
from gateway.desk import Desk
from gateway.errors import InConflict, NotThere, Refusal, TooMany, Unavailable
from gateway.operations import Operation
from gateway.receipts import ReceiptWaiter
from gateway.settings import GatewaySettings
from ledger.chain import Chain
from vault.errors import Finding, RecordErased, RecordNotHeld, VaultMismatch
from vault.vault import OpenedVersion, Vault

ARGUMENTS_BYTES_MAX: Final = 16_384
_log = structlog.get_logger("gateway.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An allowed request as this node's ledger has it."""

    ticket: bytes
    alias: bytes
    access: AccessRow
    anchors: Mapping[bytes, tuple[AnchorRow, Mapping[bytes, RecordRow]]]
    """Anchor to its row and the rows of its changed records."""


class RecordAltered(Exception):
    """A stored record is not what the ledger commits to: nothing is served."""

    def __init__(self, anchor: bytes, record: bytes, finding: str) -> None:
        super().__init__(f"record {record.hex()} under anchor {anchor.hex()}: {finding}")
        self.anchor = anchor
        self.record = record
        self.finding = finding


class Serving:
    """Copies of this institution's originals, for tickets."""

    def __init__(
        self,
        *,
        chain: Chain,
        vault: Vault,
        desk: Desk,
        waiter: ReceiptWaiter,
        settings: GatewaySettings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._chain = chain
        self._vault = vault
        self._desk = desk
        self._waiter = waiter
        self._settings = settings
        self._now = now
        self._details = vault.table("served_details")
        self._in_progress = 0

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/tickets/{ticket}/records",
                handler=self.handle_ticket,
                summary="Between institutions: the sealed copies that an allowed authorisation gets.",
                request_types=(DELIVERY_TYPE,),
                answer_type=DELIVERY_TYPE,
            ),
        )

    async def handle_ticket(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        ticket = get_path_bytes(request, "ticket", 32)
        check_media_type(request, DELIVERY_TYPE)
        body = read_ticket_request(
            await read_body(request, size_max=REQUEST_BYTES_MAX, timeout_ms=self._settings.body_timeout_ms)
        )
        delivery = await self.serve(ticket, body)
        return web.Response(body=await asyncio.to_thread(encode, delivery), content_type=DELIVERY_TYPE)

    async def serve(self, ticket: bytes, request: TicketRequest) -> Delivery:
        """The sealed copies; the same ticket may be served again while it lasts.

        Raises Unavailable while this node is behind, NotThere for a ticket that holds no (longer), InConflict
        `record_altered` when what is stored is not what was committed to.
        """
        self._check_requester(ticket, request)
        if not await self._waiter.wait_for_height(request.height, self._settings.ticket_wait_ms):
            raise Unavailable(
                "behind",
                f"height {self._chain.head.height} found, {request.height} expected",
                "ask again",
                retry_after_seconds=1,
            )
        if self._in_progress >= self._settings.tickets_at_once_max:
            raise TooMany("too_many_tickets", "too many tickets at once", "ask again", retry_after_seconds=1)
        self._in_progress += 1
        try:
            checked = self._check(ticket, request)
            try:
                copies = await asyncio.to_thread(self._read_copies, checked)
            except RecordAltered as altered:
                await self._report(checked, altered)
                raise InConflict(
                    "record_altered",
                    f"record {altered.record.hex()}: {altered.finding}",
                    "the holder must restore it; the alert is on the ledger",
                ) from None
            # Reading took time: what was revoked meanwhile must not leave the house.
            self._check(ticket, request)
            delivery = await asyncio.to_thread(self._seal, checked, copies, request)
        finally:
            self._in_progress -= 1
        _log.info(
            "served",
            ticket=ticket.hex(),
            institution=checked.access.institution.hex(),
            member=checked.access.member.hex(),
            alias=checked.alias.hex(),
            copies=len(copies.copies),
        )
        return delivery

    # Checking

    def _check(self, ticket: bytes, request: TicketRequest) -> Ticket:
        """The ticket, if it holds now. Raises NotThere for every reason alike."""
        state = self._chain.state
        receipt, transaction = self._chain.get_receipt(ticket), self._chain.get_transaction(ticket)
        if receipt is None or transaction is None or receipt.height != request.height:
            raise NotThere
        call = transaction.body.calls[0]
        if receipt.code != "ok" or (call.contract, call.method) != ("authorization", "authorize"):
            raise NotThere
        alias = decode_as(Authorize, call.arguments, size_max=ARGUMENTS_BYTES_MAX).alias
        access = get_access(state, alias, receipt.height, ticket)
        row = get_alias(state, alias)
        if access is None or not access.is_allowed or row is None or row.holder != self._desk.institution:
            raise NotThere
        self._check_requester(ticket, request)
        member = get_member(state, access.member)
        if access.institution != request.institution or member is None or member.is_suspended:
            raise NotThere
        if compute_details_digest(request.salt, request.details) != access.details:
            raise NotThere
        if row.is_frozen or not self._is_fresh(access) or not self._is_grant_live(access):
            raise NotThere
        anchors = {}
        for anchor in access.anchors:
            anchored = get_anchor(state, alias, anchor)
            if anchored is None:
                raise NotThere
            anchors[anchor] = (anchored, dict(list_records(state, alias, anchor)))
        return Ticket(ticket=ticket, alias=alias, access=access, anchors=anchors)

    def _check_requester(self, ticket: bytes, request: TicketRequest) -> None:
        """Raises NotThere unless an institution that is not suspended signed this very request."""
        requester = get_institution(self._chain.state, request.institution)
        if requester is None or not requester.is_active:
            raise NotThere
        message = compute_request_bytes(
            chain_id=self._chain.chain_id,
            ticket=ticket,
            holder=self._desk.institution,
            height=request.height,
            details=request.details,
            salt=request.salt,
        )
        try:
            verify_signature(requester.public_key, tags.TICKET_REQUEST, message, request.signature)
        except InvalidSignature:
            raise NotThere from None

    def _is_fresh(self, access: AccessRow) -> bool:
        """Against the own clock and against block time, whichever is later."""
        chain, clock_ms = self._chain, int(self._now() * 1000)
        parameters = get_parameters(chain.state)
        assert parameters is not None, "a ledger without parameters, on which nothing is authorised"
        age = max(clock_ms, chain.head.header.time_ms) - access.time_ms
        is_of_now = access.time_ms <= clock_ms + chain.genesis.parameters.clock_tolerance_ms
        return age <= parameters.ticket_age_ms_max and is_of_now

    def _is_grant_live(self, access: AccessRow) -> bool:
        """Its use is counted already; revocation, end and mandate are looked at again."""
        state, grant = self._chain.state, get_grant(self._chain.state, access.grant)
        time_ms = max(int(self._now() * 1000), self._chain.head.header.time_ms)
        if grant is None or grant.closed_height or time_ms >= grant.until_ms:
            return False
        if not grant.mandate:
            return True
        mandate = get_mandate(state, grant.mandate)
        return mandate is not None and mandate.is_active(self._chain.head.header.time_ms)

    # Reading: blocking

    def _read_copies(self, ticket: Ticket) -> Copies:
        """Every record under the ticket's anchors that is not withdrawn. Raises RecordAltered."""
        copies: list[Copy] = []
        size = 0
        for anchor, (anchored, changed) in ticket.anchors.items():
            records = {item.record for item in self._vault.list_records(ticket.alias, anchor)}
            withdrawn = {record for record, row in changed.items() if row.is_withdrawn}
            if len(records | withdrawn) < anchored.count:
                raise RecordAltered(anchor, anchor, Finding.MISSING.value)
            for record in sorted(records - withdrawn):
                copy = self._read_copy(anchor, anchored, record, changed.get(record))
                size += len(copy.content)
                if size > self._settings.delivery_bytes_max:
                    raise InConflict(
                        "too_much_at_once",
                        f"more than {self._settings.delivery_bytes_max} bytes found",
                        "ask for fewer classes",
                    )
                copies.append(copy)
        return Copies(copies=tuple(copies))

    def _read_copy(self, anchor: bytes, anchored: AnchorRow, record: bytes, row: RecordRow | None) -> Copy:
        try:
            opened = self._vault.read(record, 1 if row is None else row.leaf.version)
        except VaultMismatch as mismatch:
            raise RecordAltered(anchor, record, mismatch.finding.value) from mismatch
        except (RecordNotHeld, RecordErased) as error:
            raise RecordAltered(anchor, record, Finding.MISSING.value) from error
        if not _is_committed(opened, anchored, row):
            raise RecordAltered(anchor, record, Finding.COMMITMENT_MISMATCH.value)
        return Copy(
            anchor=anchor,
            leaf=opened.leaf,
            inclusion=opened.inclusion if row is None else None,
            salt=opened.salt,
            record_class=anchored.record_class,
            media_type=opened.media_type,
            content=opened.content,
        )

    def _seal(self, ticket: Ticket, copies: Copies, request: TicketRequest) -> Delivery:
        self._details.put(ticket.ticket, encode((request.salt, request.details)))
        try:
            return seal_copies(
                copies,
                ephemeral_key=ticket.access.ephemeral_key,
                chain_id=self._chain.chain_id,
                ticket=ticket.ticket,
                holder=self._desk.institution,
                key=self._desk.key,
            )
        except ValueError:
            # The requester put an unusable key on the ledger: its own loss.
            raise NotThere from None

    async def _report(self, ticket: Ticket, altered: RecordAltered) -> None:
        """An alert on the ledger; that it is reported already, or cannot be now, changes no answer."""
        _log.error("record altered", record=altered.record.hex(), finding=altered.finding)
        call = ReportMismatch(
            alias=ticket.alias, anchor=altered.anchor, record=altered.record, finding=altered.finding
        )
        try:
            await self._desk.carry_out(call)
        except Refusal as refusal:
            _log.warning("mismatch not reported", record=altered.record.hex(), code=refusal.code)


def _is_committed(opened: OpenedVersion, anchored: AnchorRow, row: RecordRow | None) -> bool:
    """Whether the vault's leaf is the one that the ledger has."""
    if row is not None:
        return opened.leaf == row.leaf
    return is_included(opened, anchored)


def is_included(opened: OpenedVersion | Copy, anchored: AnchorRow) -> bool:
    """Whether the leaf lies under the anchor's root."""
    if opened.inclusion is None:
        return False
    try:
        verify_inclusion(
            leaf_hash=opened.leaf.compute_hash(),
            index=opened.inclusion.index,
            size=anchored.count,
            path=opened.inclusion.path,
            root=anchored.root,
        )
    except ProofError:
        return False
    return True

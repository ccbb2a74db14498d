"""Attacks on the holder: what a requester may send with a ticket, and what ends a ticket."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from client import TransactionSigner
from contracts.calls.authorization import Authorize
from contracts.calls.changes import ContractActivation, ParametersChange, ParameterValue
from contracts.calls.folders import FreezeAlias
from contracts.calls.governance import Propose, Vote
from contracts.calls.registry import SuspendInstitution
from contracts.evidence import list_anchors
from crypto import tags
from crypto.encoding import decode_as, encode
from crypto.hazmat.aead import DecryptionError
from crypto.hazmat.hpke import RecipientKey
from crypto.key_files import generate_signing_key
from crypto.signatures import SigningKey
from gateway.delivery import (
    Delivery,
    TicketRequest,
    compute_details_digest,
    compute_request_bytes,
    open_delivery,
)
from gateway.settings import GatewaySettings

pytestmark = pytest.mark.slow  # whole gateways over real ledgers and vaults


@dataclass
class Asked:
    """A ticket of the west for records of the east, and everything that a requester's gateway knows."""

    consortium: Any
    alias: str
    grant: str
    guardian: Any
    doctor: Any
    recipient: RecipientKey
    ticket: bytes
    height: int
    details: bytes
    salt: bytes

    def build(self, *, key: SigningKey | None = None, **more: Any) -> TicketRequest:
        fields: dict[str, Any] = {
            "institution": self.consortium.west.institution,
            "height": self.height,
            "details": self.details,
            "salt": self.salt,
        } | more
        message = compute_request_bytes(
            chain_id=self.consortium.east.chain.chain_id,
            ticket=self.ticket,
            holder=self.consortium.east.institution,
            height=fields["height"],
            details=fields["details"],
            salt=fields["salt"],
        )
        signature = (key or self.consortium.west.key).sign(tags.TICKET_REQUEST, message)
        return TicketRequest(signature=signature, **fields)

    async def send(
        self, request: TicketRequest, *, house: Any = None, ticket: bytes | None = None
    ) -> tuple[int, bytes]:
        house = house or self.consortium.east
        async with self.consortium.session.post(
            f"{house.url}/v1/tickets/{(ticket or self.ticket).hex()}/records",
            data=encode(request),
            headers={"Content-Type": "application/msgpack"},
        ) as response:
            return response.status, await response.read()

    def open(self, data: bytes, recipient: RecipientKey | None = None) -> Any:
        east = self.consortium.east
        return open_delivery(
            decode_as(Delivery, data, size_max=len(data)),
            recipient=recipient or self.recipient,
            chain_id=east.chain.chain_id,
            ticket=self.ticket,
            holder=east.institution,
            holder_key=east.key.public_key,
        )


@pytest.fixture
async def asked(consortium: Any, kit: Any) -> Asked:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    await clerk.store_bundle(patient.alias, kit.build_bundle("glucose"))
    guardian = await consortium.add_guardian(consortium.east, patient.alias, ("laboratory_reports",))
    doctor = await consortium.add_member(consortium.west, "clinician")
    grant = await guardian.create_grant(kit.build_grant(patient.alias, consortium.west.id))
    return await _ask(consortium, patient.alias, grant.grant, guardian, doctor)


async def _ask(consortium: Any, alias: str, grant: str, guardian: Any, doctor: Any) -> Asked:
    recipient, salt, details = RecipientKey(), secrets.token_bytes(32), b"why"
    anchors = list_anchors(consortium.west.chain.state, bytes.fromhex(alias), ("laboratory_reports",))
    transaction = consortium.sign(consortium.west).sign(
        Authorize(
            alias=bytes.fromhex(alias),
            grant=bytes.fromhex(grant),
            anchors=tuple(anchor for anchor, _ in anchors),
            purpose="care",
            member=bytes.fromhex(doctor.subject),
            ephemeral_key=recipient.public_key,
            details=compute_details_digest(salt, details),
        )
    )
    answer = await doctor.submit_and_wait(transaction)
    return Asked(
        consortium=consortium,
        alias=alias,
        grant=grant,
        guardian=guardian,
        doctor=doctor,
        recipient=recipient,
        ticket=transaction.transaction_id,
        height=answer.height,
        details=details,
        salt=salt,
    )


async def test_same_ticket_is_served_again_without_further_use(asked: Asked) -> None:
    for _ in range(2):
        status, data = await asked.send(asked.build())
        assert status == 200
        assert b"glucose" in asked.open(data).copies[0].content
    (grant,) = await asked.guardian.list_grants(asked.alias)
    assert grant.uses == 1


async def test_stolen_delivery_opens_for_no_other_key(asked: Asked) -> None:
    _, data = await asked.send(asked.build())
    with pytest.raises(DecryptionError):
        asked.open(data, RecipientKey())


async def test_request_signed_by_another_institution_is_not_served(asked: Asked) -> None:
    watch = asked.consortium.watch
    for request in (
        asked.build(key=watch.key),
        asked.build(key=watch.key, institution=watch.institution),
        asked.build(institution=b"x" * 16),
    ):
        assert (await asked.send(request))[0] == 404


async def test_signature_of_one_request_serves_for_no_other(asked: Asked) -> None:
    request = msgspec.structs.replace(asked.build(), height=asked.height + 1)
    assert (await asked.send(request))[0] == 404


async def test_strangers_request_waits_for_nothing(asked: Asked) -> None:
    request = asked.build(key=generate_signing_key(), height=2**62)
    assert (await asked.send(request))[0] == 404


async def test_details_other_than_those_committed_to_are_not_served(asked: Asked) -> None:
    assert (await asked.send(asked.build(details=b"another reason")))[0] == 404
    assert (await asked.send(asked.build(salt=bytes(32))))[0] == 404


async def test_ticket_is_not_served_by_who_does_not_hold_the_records(asked: Asked) -> None:
    assert (await asked.send(asked.build(), house=asked.consortium.watch))[0] == 404


async def test_revocation_ends_a_ticket_that_was_allowed(asked: Asked) -> None:
    await asked.guardian.revoke_grant(asked.grant)
    assert (await asked.send(asked.build()))[0] == 404


async def test_freeze_of_the_folder_ends_a_ticket(asked: Asked) -> None:
    signer: TransactionSigner = asked.consortium.sign(asked.consortium.watch)
    freeze = FreezeAlias(alias=bytes.fromhex(asked.alias), reason="dispute")
    await asked.doctor.submit_and_wait(signer.sign(freeze))
    assert (await asked.send(asked.build()))[0] == 404


async def test_suspension_of_the_requester_ends_its_tickets(asked: Asked) -> None:
    signer: TransactionSigner = asked.consortium.sign(asked.consortium.watch)
    suspend = SuspendInstitution(institution=asked.consortium.west.institution, reason="breach")
    await (await asked.consortium.open(asked.consortium.watch)).submit_and_wait(signer.sign(suspend))
    assert (await asked.send(asked.build()))[0] == 404


async def test_holder_that_is_behind_says_when_to_come_back(asked: Asked) -> None:
    status, data = await asked.send(asked.build(height=asked.height + 100))
    assert status == 503
    assert b"behind" in data


async def test_ticket_from_the_future_is_not_served(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    await clerk.store_bundle(patient.alias, kit.build_bundle("glucose"))
    guardian = await consortium.add_guardian(consortium.east, patient.alias, ("laboratory_reports",))
    doctor = await consortium.add_member(consortium.west, "clinician")
    grant = await guardian.create_grant(kit.build_grant(patient.alias, consortium.west.id))
    # The network's clock runs ahead of the holder's own by more than is tolerated.
    consortium.orderer.shift_ms = 20_000
    asked = await _ask(consortium, patient.alias, grant.grant, guardian, doctor)
    assert (await asked.send(asked.build()))[0] == 404


async def test_wrong_height_of_a_known_ticket_is_not_served(asked: Asked) -> None:
    assert (await asked.send(asked.build(height=asked.height - 1)))[0] == 404


async def test_any_other_committed_transaction_is_no_ticket(asked: Asked) -> None:
    chain = asked.consortium.east.chain
    for height in range(1, chain.head.height + 1):
        for transaction in chain.get_block(height).transactions:
            if transaction.transaction_id != asked.ticket:
                request = asked.build(height=height)
                assert (await asked.send(request, ticket=transaction.transaction_id))[0] == 404


async def test_garbage_instead_of_a_ticket_request_is_refused(asked: Asked) -> None:
    for data in (b"", b"\xc1", b"\x95\x01\x01\xc4\x00\xc4\x00\xc4\x00", b"\x91" * 9_000):
        async with asked.consortium.session.post(
            f"{asked.consortium.east.url}/v1/tickets/{asked.ticket.hex()}/records",
            data=data,
            headers={"Content-Type": "application/msgpack"},
        ) as response:
            assert response.status in (400, 413)


class TestOldTicket:
    @pytest.fixture
    def ticket_age_ms_max(self) -> int:
        return 300

    async def test_ticket_is_not_served_once_it_is_too_old(self, asked: Asked) -> None:
        await asyncio.sleep(0.5)
        assert (await asked.send(asked.build()))[0] == 404

    async def test_a_vote_moves_the_age_for_tickets_that_are_there(self, asked: Asked) -> None:
        consortium = asked.consortium
        change = ParametersChange(values=(ParameterValue("ticket_age_ms_max", 60_000),))
        proposal = Propose(bytes(16), change, consortium.east.chain.head.height + 6)
        officer = await consortium.login(consortium.east)
        await officer.submit_and_wait(consortium.sign(consortium.east).sign(proposal))
        await asyncio.sleep(0.5)
        assert (await asked.send(asked.build()))[0] == 404
        await officer.submit_and_wait(consortium.sign(consortium.west).sign(Vote(bytes(16), True)))
        while consortium.east.chain.head.height < proposal.due_height:
            other = ContractActivation(contract="consents", version=1)
            more = Propose(secrets.token_bytes(16), other, proposal.due_height + 50)
            await officer.submit_and_wait(consortium.sign(consortium.east).sign(more))
        assert (await asked.send(asked.build()))[0] == 200


class TestSmallDelivery:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(delivery_bytes_max=10)

    async def test_more_bytes_than_one_delivery_may_hold_are_refused(self, asked: Asked) -> None:
        status, data = await asked.send(asked.build())
        assert (status, b"too_much_at_once" in data) == (409, True)

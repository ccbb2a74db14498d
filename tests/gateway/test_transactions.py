"""Transactions over HTTP: each refusal with its own status and code, bulk, waiting, proofs."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgpack
import pytest

from client import Refused, TransactionSigner, draw_identifier
from contracts.calls.folders import RegisterAlias
from contracts.calls.registry import RegisterMember
from crypto.key_files import generate_signing_key
from crypto.signatures import SIGNATURE_BYTES
from gateway.settings import GatewaySettings
from ledger.proofs import ProvedReceipt, decode_proof, verify_proof
from ledger.transaction import SignedTransaction, encode_transaction


def sign_alias(consortium: Any, house: Any = None, **more: Any) -> SignedTransaction:
    house = house or consortium.east
    call = RegisterAlias(
        alias=draw_identifier(), custodian=house.institution, patient_key=b"", credential=b""
    )
    transaction: SignedTransaction = consortium.sign(house).sign(call, **more)
    return transaction


async def post(consortium: Any, *signed: bytes) -> tuple[int, Any]:
    result: tuple[int, Any] = await consortium.request(
        "POST",
        consortium.east,
        "/v1/transactions",
        data=msgpack.packb(list(signed)),
        headers={"Content-Type": "application/msgpack"},
    )
    return result


async def test_accepted_transactions_are_answered_202_with_their_ids(consortium: Any) -> None:
    transactions = [sign_alias(consortium) for _ in range(3)]
    status, answer = await post(consortium, *map(encode_transaction, transactions))
    assert status == 202
    assert answer["results"] == [
        {"id": item.transaction_id.hex(), "code": "accepted", "message": ""} for item in transactions
    ]


async def test_json_form_takes_the_same_bytes(consortium: Any) -> None:
    transaction = sign_alias(consortium)
    body = {"transactions": [base64.b64encode(encode_transaction(transaction)).decode()]}
    status, _ = await consortium.request("POST", consortium.east, "/v1/transactions", json=body)
    assert status == 202
    client = await consortium.open(consortium.east)
    answer = await client.wait_for_receipt(transaction.transaction_id.hex())
    assert (answer.end, answer.code) == ("committed", "ok")


async def test_each_refusal_of_a_lone_transaction_has_its_status_and_code(consortium: Any, kit: Any) -> None:
    good = encode_transaction(sign_alias(consortium))
    assert (await post(consortium, good))[0] == 202
    other_chain = TransactionSigner(consortium.east.key, chain_id=bytes(32))
    stranger = TransactionSigner(generate_signing_key(), chain_id=consortium.east.chain.chain_id)
    call = RegisterMember(member=draw_identifier(), role="clerk", evidence=bytes(32))
    fresh = encode_transaction(sign_alias(consortium))
    cases = {
        (400, "malformed"): b"x" * 100,
        (400, "bad_signature"): bytes([fresh[0] ^ 1]) + fresh[1:],
        (400, "wrong_chain"): encode_transaction(other_chain.sign(call)),
        (400, "unknown_sender"): encode_transaction(stranger.sign(call)),
        (400, "expires_too_late"): encode_transaction(
            sign_alias(consortium, expires_ms=kit.now_ms() + 3_600_000)
        ),
        (409, "expired"): encode_transaction(sign_alias(consortium, expires_ms=kit.now_ms() - 60_000)),
        (409, "already_committed"): good,
        (413, "too_large"): bytes(SIGNATURE_BYTES + 40_000),
    }
    for (status, code), signed in cases.items():
        found, problem = await post(consortium, signed)
        assert (found, problem["code"]) == (status, code)
        assert problem["message"]
        assert problem["what_to_do"]
        assert len(problem["results"]) == 1


async def test_one_bad_transaction_among_good_ones_does_not_stop_these(consortium: Any) -> None:
    good = sign_alias(consortium)
    client = await consortium.open(consortium.east)
    results = await client.submit([b"bad", good])
    assert [result.code for result in results] == ["malformed", "accepted"]
    assert (await client.wait_for_receipt(good.transaction_id.hex())).code == "ok"


async def test_pending_transaction_sent_again_counts_once(consortium: Any) -> None:
    consortium.orderer.is_paused = True
    transaction, client = sign_alias(consortium), await consortium.open(consortium.east)
    assert [(await client.submit([transaction]))[0].code for _ in range(2)] == ["accepted", "duplicate"]


async def test_bulk_body_out_of_form_is_refused_as_a_whole(consortium: Any) -> None:
    too_many = msgpack.packb([b"x"] * 1_001)
    for data in (b"", b"\x93\x01\x02\x03", b"\x80", b"\x91" * 200_000, too_many, b"\x90"):
        status, problem = await consortium.request(
            "POST",
            consortium.east,
            "/v1/transactions",
            data=data,
            headers={"Content-Type": "application/msgpack"},
        )
        assert status == 400
        codes = {too_many: "too_many_transactions", b"\x90": "no_transactions"}
        assert problem["code"] == codes.get(data, "malformed")


async def test_waiting_ends_with_the_block(consortium: Any) -> None:
    consortium.orderer.is_paused = True
    transaction, client = sign_alias(consortium), await consortium.open(consortium.east)
    await client.submit([transaction])
    assert (await client.get_transaction(transaction.transaction_id.hex())).end == "pending"
    waiting = asyncio.create_task(client.get_transaction(transaction.transaction_id.hex(), wait_ms=5_000))
    await asyncio.sleep(0.05)
    consortium.orderer.commit()
    assert (await waiting).end == "committed"


async def test_results_and_events_are_shown_to_those_concerned_only(consortium: Any) -> None:
    transaction = sign_alias(consortium)
    east, west = await consortium.login(consortium.east), await consortium.login(consortium.west)
    watch, stranger = await consortium.login(consortium.watch), await consortium.open(consortium.east)
    await stranger.submit([transaction])
    shown = [
        bool((await client.get_transaction(transaction.transaction_id.hex())).events)
        for client in (east, west, watch, stranger)
    ]
    assert shown == [True, False, True, False]


async def test_receipt_proof_verifies_offline_and_is_hidden_from_others(consortium: Any) -> None:
    transaction = sign_alias(consortium)
    east = await consortium.login(consortium.east)
    await east.submit_and_wait(transaction)
    data = await east.get_receipt_proof(transaction.transaction_id.hex())
    proved = verify_proof(decode_proof(data), consortium.east.chain.chain_id)
    assert isinstance(proved, ProvedReceipt)
    assert proved.receipt.transaction_id == transaction.transaction_id
    west = await consortium.login(consortium.west)
    with pytest.raises(Refused) as hidden:
        await west.get_receipt_proof(transaction.transaction_id.hex())
    with pytest.raises(Refused) as absent:
        await west.get_receipt_proof("ab" * 32)
    assert hidden.value.args == absent.value.args


class TestFewWaits:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(waits_max=1)

    async def test_waits_beyond_their_number_are_refused(self, consortium: Any) -> None:
        client = await consortium.open(consortium.east)
        first = asyncio.create_task(client.get_transaction("ab" * 32, wait_ms=300))
        await asyncio.sleep(0.1)
        with pytest.raises(Refused) as refused:
            await client.get_transaction("cd" * 32, wait_ms=300)
        assert (refused.value.status, refused.value.code) == (429, "too_many_waits")
        assert (await first).end == "unknown"

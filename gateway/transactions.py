"""Transactions over HTTP: taking them in, telling how they ended, and the proof files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from client import models
from client.models import TRANSACTIONS_PER_REQUEST_MAX
from gateway.authentication import Authenticator, get_session
from gateway.bodies import (
    build_json,
    check_media_type,
    check_query,
    get_path_bytes,
    get_query_integer,
    read_body,
)
from gateway.errors import PROBLEM_TYPE, BadRequest, NotThere
from gateway.operations import EVERYBODY, Operation
from gateway.ports import ACCEPTED, Admission, Submit
from gateway.receipts import ReceiptWaiter
from gateway.settings import GatewaySettings
from gateway.strict_json import read_model
from gateway.visibility import Visibility, decode_fields, show_field
from ledger.chain import Chain
from ledger.errors import NotHeld
from ledger.receipt import Receipt

MSGPACK_TYPE: Final = "application/msgpack"
PROOF_TYPE: Final = "application/octet-stream"

STATUS_BY_CODE: Final = {
    "malformed": 400,
    "bad_signature": 400,
    "wrong_chain": 400,
    "unknown_sender": 400,
    "expires_too_late": 400,
    "expired": 409,
    "duplicate": 409,
    "already_committed": 409,
    "too_large": 413,
    "mempool_full": 429,
    "share_full": 429,
}
"""The HTTP status of each refusal; of several in one request the smallest of these counts."""

ADVICE: Final = {
    "malformed": "send signature (64 bytes) followed by the canonical body",
    "bad_signature": "sign the body under the tag TRANSACTION with the sender's key",
    "wrong_chain": "sign for this ledger: /v1/status tells its chain id",
    "unknown_sender": "use a key that is registered and not suspended",
    "expires_too_late": "sign it anew with an earlier expires_ms",
    "expired": "sign it anew with a later expires_ms",
    "duplicate": "it is pending: wait for its receipt",
    "already_committed": "fetch its receipt",
    "too_large": "split it into several transactions",
    "mempool_full": "send the identical bytes again after a second",
    "share_full": "send the identical bytes again once more of your institution's have ended",
}

_decode_bulk = msgspec.msgpack.Decoder(list[bytes]).decode
_encode_json = msgspec.json.Encoder().encode


class Transactions:
    """Operations on transactions and receipts."""

    def __init__(
        self,
        *,
        chain: Chain,
        submit: Submit,
        waiter: ReceiptWaiter,
        authenticator: Authenticator,
        visibility: Visibility,
        settings: GatewaySettings,
    ) -> None:
        self._chain = chain
        self._submit = submit
        self._waiter = waiter
        self._authenticator = authenticator
        self._visibility = visibility
        self._settings = settings

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/transactions",
                handler=self.handle_submit,
                summary="Send signed transactions; accepted ones are not durable yet.",
                request=models.SubmitRequest,
                request_types=("application/json", MSGPACK_TYPE),
                answer=models.SubmitAnswer,
                status=202,
            ),
            Operation(
                method="GET",
                path="/v1/transactions/{id}",
                handler=self.handle_get,
                summary="How a transaction ended; with wait_ms, as soon as it has.",
                answer=models.TransactionAnswer,
                query=(
                    ("wait_ms", "how long to wait while it is pending"),
                    ("expires_ms", "its own expiry, so that an absent one can be told to have expired"),
                ),
            ),
            Operation(
                method="GET",
                path="/v1/receipts/{id}/proof",
                handler=self.handle_proof,
                summary="The receipt as a file that verifies offline.",
                roles=EVERYBODY,
                answer_type=PROOF_TYPE,
                takes_min_height=True,
            ),
        )

    async def handle_submit(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        signed = await self._read_transactions(request)
        admissions = await self._submit(signed)
        return _answer_submission(admissions)

    async def handle_get(self, request: web.Request) -> web.StreamResponse:
        check_query(request, "wait_ms", "expires_ms")
        transaction_id = get_path_bytes(request, "id", 32)
        session = self._authenticator.find_session(request)
        wait_ms = get_query_integer(request, "wait_ms", largest=self._settings.wait_ms_max) or 0
        expires_ms = get_query_integer(request, "expires_ms", largest=2**53)
        receipt = await self._waiter.wait(transaction_id, wait_ms)
        if receipt is None:
            end = self._chain.find_end(transaction_id, expires_ms)
            return build_json(models.TransactionAnswer(id=transaction_id.hex(), end=end.status))
        transaction = self._chain.get_transaction(transaction_id)
        shown = (
            session is not None
            and transaction is not None
            and self._visibility.may_see_receipt(session.account, transaction, receipt)
        )
        return build_json(build_transaction_answer(receipt, with_results=shown))

    async def handle_proof(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        transaction_id = get_path_bytes(request, "id", 32)
        receipt = self._chain.get_receipt(transaction_id)
        transaction = self._chain.get_transaction(transaction_id)
        if receipt is None or transaction is None:
            raise self._not_there()
        if not self._visibility.may_see_receipt(session.account, transaction, receipt):
            raise self._not_there()
        try:
            proof = self._chain.prove_receipt(transaction_id)
        except NotHeld:
            raise self._not_there() from None
        return web.Response(body=proof.encode(), content_type=PROOF_TYPE)

    def _not_there(self) -> NotThere:
        """Absent, somebody else's, or pruned here: the same answer for all three."""
        base = self._chain.archive.get_base()
        if base == 1:
            return NotThere()
        return NotThere(f"check the id; for blocks below height {base} ask a node that keeps all blocks")

    async def _read_transactions(self, request: web.Request) -> list[bytes]:
        if check_media_type(request, MSGPACK_TYPE, "application/json") == MSGPACK_TYPE:
            data = await read_body(
                request, size_max=self._settings.bulk_bytes_max, timeout_ms=self._settings.body_timeout_ms
            )
            try:
                signed = _decode_bulk(data)
            except (msgspec.MsgspecError, RecursionError):
                raise BadRequest(
                    "malformed", "a MessagePack array of byte strings expected", "see /openapi.json"
                ) from None
        else:
            data = await read_body(
                request, size_max=self._settings.json_bytes_max, timeout_ms=self._settings.body_timeout_ms
            )
            body = read_model(models.SubmitRequest, data)
            try:
                signed = [base64.b64decode(item, validate=True) for item in body.transactions]
            except binascii.Error:
                raise BadRequest("malformed", "transactions: base64 expected", "see /openapi.json") from None
        if not signed:
            raise BadRequest("no_transactions", "an empty list found", "send at least one transaction")
        if len(signed) > TRANSACTIONS_PER_REQUEST_MAX:
            raise BadRequest(
                "too_many_transactions",
                f"{len(signed)} transactions found, at most {TRANSACTIONS_PER_REQUEST_MAX} expected",
                "send them in several requests",
            )
        return signed


def build_transaction_answer(receipt: Receipt, *, with_results: bool) -> models.TransactionAnswer:
    """`with_results` for those who may see the receipt; the others learn its end alone."""
    return models.TransactionAnswer(
        id=receipt.transaction_id.hex(),
        end="committed" if receipt.code == "ok" else "failed",
        code=receipt.code,
        height=receipt.height,
        index=receipt.index,
        results=tuple(result.hex() for result in receipt.results) if with_results else (),
        events=build_event_answers(receipt) if with_results else (),
    )


def build_event_answers(receipt: Receipt) -> tuple[models.EventAnswer, ...]:
    return tuple(
        models.EventAnswer(
            height=receipt.height,
            transaction=receipt.transaction_id.hex(),
            number=number,
            contract=event.contract,
            name=event.name,
            fields=tuple(map(show_field, decode_fields(event))),
        )
        for number, event in enumerate(receipt.events)
    )


def _answer_submission(admissions: Sequence[Admission]) -> web.Response:
    """202, or the worst refusal as a problem; with each transaction's own result in both."""
    results = [
        {
            "id": "" if item.transaction_id is None else item.transaction_id.hex(),
            "code": item.code,
            "message": "" if item.code == ACCEPTED else item.message,
        }
        for item in admissions
    ]
    refused = [item for item in admissions if item.code != ACCEPTED]
    if not refused:
        return web.Response(
            status=202, body=_encode_json({"results": results}), content_type="application/json"
        )
    worst = min(refused, key=lambda item: STATUS_BY_CODE.get(item.code, 400))
    status = STATUS_BY_CODE.get(worst.code, 400)
    many = "" if len(admissions) == 1 else f"{len(refused)} of {len(admissions)} refused; one of them: "
    problem = {
        "status": status,
        "code": worst.code,
        "message": many + worst.message,
        "what_to_do": ADVICE.get(worst.code, "docs/api.md lists the codes"),
        "results": results,
    }
    response = web.Response(status=status, body=_encode_json(problem), content_type=PROBLEM_TYPE)
    if status == 429:
        response.headers["Retry-After"] = "1"
    return response

"""What clients, other gateways and record systems send: JSON bodies, bundles, sealed copies, answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final

from pydantic import BaseModel

from client import models
from client.client import Client
from client.errors import AnswerRejected, Refused
from client.transport import Transport, _read_problem
from contracts.calls.evidence import RecordLeaf
from contracts.registry import InstitutionRow
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hazmat import hpke
from crypto.signatures import SigningKey
from gateway.accounts import ACCOUNT_BYTES_MAX, Account
from gateway.anchoring import PLAN_BYTES_MAX, Plan
from gateway.delivery import (
    Copies,
    Delivery,
    TicketRequest,
    compute_delivery_bytes,
    compute_seal_info,
    open_delivery,
    read_ticket_request,
)
from gateway.errors import BadRequest, CopyRejected
from gateway.holders import _read_answer
from gateway.strict_json import check_json, read_model
from records.bundles import BundleRefused, split_bundle
from records.strict_json import JsonRefused, decode_text
from tests.fuzz.mutations import JSON, MSGPACK
from tests.fuzz.target import Target, finish
from vault.envelope import EnvelopeMismatch, Secrets, open_version, seal_version
from vault.versions import ENTRY_BYTES_MAX, VersionEntry

ID: Final = "0123456789abcdef" * 2
HASH: Final = "0123456789abcdef" * 4
KEY: Final = SigningKey(b"k" * 32)
HOLDER: Final = InstitutionRow(
    institution=b"h" * 16,
    kind="hospital",
    name="East",
    public_key=KEY.public_key,
    gateway_url="https://east.example",
    registered_height=0,
    changed_height=0,
    suspended_reason="",
    removed_height=0,
)

REQUESTS: Final[Mapping[type[BaseModel], dict[str, Any]]] = {
    models.ChallengeRequest: {"subject": ID},
    models.LoginRequest: {"subject": ID, "challenge": HASH, "signature": HASH * 2},
    models.MemberRequest: {"role": "clinician", "public_key": HASH, "evidence": "licence 7"},
    models.SuspendMemberRequest: {"reason": "left"},
    models.PatientRequest: {"patient": "7", "custodian": ID, "public_key": HASH, "possession": HASH * 2},
    models.LinkAliasRequest: {"alias": ID},
    models.MandateRequest: {
        "alias": ID,
        "scope": ["documents"],
        "evidence": "birth certificate",
        "until_ms": 1_900_000_000_000,
        "representative": ID,
    },
    models.GrantRequest: {
        "alias": ID,
        "institution": ID,
        "member": ID,
        "classes": ["documents", "other"],
        "until_ms": 1_900_000_000_000,
        "uses_max": 3,
        "notice_version": "1",
    },
    models.ReadRequest: {"alias": ID, "classes": ["documents"], "grant": ID, "reason": "follow-up"},
    models.SubmitRequest: {"transactions": ["AAAA", "AA=="]},
}

STATUS: Final = {
    "network": "test",
    "chain_id": HASH,
    "institution": ID,
    "height": 1,
    "digest": HASH,
    "state_root": HASH,
    "history_root": HASH,
    "history_size": 3,
    "time_ms": 1_800_000_000_000,
    "epoch": 0,
    "view": 0,
    "primary": 0,
    "replica": -1,
    "pending": 0,
    "ready": True,
    "reason": "",
    "warning": "",
}
EVENT: Final = {
    "height": 1,
    "transaction": HASH,
    "number": 0,
    "contract": "evidence",
    "name": "anchored",
    "fields": [ID, 3],
}
RESULTS: Final = {"results": [{"id": HASH, "code": "accepted", "message": ""}]}
PROBLEM: Final = {
    "status": 400,
    "code": "not_there",
    "message": "nothing found",
    "what_to_do": "check the id",
}
BUNDLE: Final = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {
            "fullUrl": "urn:uuid:0",
            "resource": {"resourceType": "Patient", "id": "p", "name": [{"text": "Ann"}]},
        },
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "category": [{"coding": [{"code": "laboratory"}]}],
                "code": {"text": "haemoglobin"},
                "valueQuantity": {"value": 1.00},
            }
        },
    ],
}

LEAF: Final = RecordLeaf(b"r" * 16, 1, bytes(32), b"l" * 16)
ENVELOPE: Final = seal_version(record=b"r" * 16, version=1, holder=b"h" * 16, content=b"content")
RECIPIENT: Final = hpke.RecipientKey()


def dump(document: object) -> bytes:
    return json.dumps(document).encode()


class FixedTransport(Transport):
    """Answers every request with the bytes under test."""

    def __init__(self, status: int, data: bytes) -> None:
        super().__init__("https://gateway.example", ca_file=None, timeout_seconds=1)
        self._answer = status, data

    async def exchange(self, method: str, path: str, **more: object) -> tuple[int, bytes]:
        return self._answer

    async def stream_lines(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[str]:
        yield "data: " + self._answer[1].decode("utf-8", "replace")


def ask(
    call: Callable[[Client], Coroutine[Any, Any, object]], status: int = 200
) -> Callable[[bytes], object]:
    """What a client's call makes of an answer."""

    def decode(data: bytes) -> object:
        client = Client("https://gateway.example")
        client._transport = FixedTransport(status, data)
        return finish(call(client))

    return decode


async def _take_events(client: Client) -> list[object]:
    return [event async for event in client.events()]


def open_copies(data: bytes) -> Copies:
    """Copies that come well sealed and well signed, from a holder who puts anything into them."""
    names = {"chain_id": bytes(32), "ticket": bytes(32)}
    sealed = hpke.seal(RECIPIENT.public_key, data, compute_seal_info(holder=b"h" * 16, **names))
    signature = KEY.sign(tags.DELIVERY, compute_delivery_bytes(sealed=sealed, **names))
    delivery = Delivery(sealed=sealed, signature=signature)
    return open_delivery(delivery, recipient=RECIPIENT, holder=b"h" * 16, holder_key=KEY.public_key, **names)


def open_blob(data: bytes) -> bytes:
    return open_version(sealed=data, leaf=ENVELOPE.leaf, holder=b"h" * 16, secrets=ENVELOPE.secrets)


def make_request_target(kind: type[BaseModel], example: dict[str, Any]) -> Target:
    return Target(
        places=(f"gateway.strict_json:read_model {kind.__name__}", "gateway.strict_json:read_model"),
        decode=lambda data: read_model(kind, data),
        refusals=(BadRequest,),
        make_examples=lambda: [dump(example)],
        form=JSON,
    )


DOCUMENT_TARGETS: Final = (
    *(make_request_target(kind, example) for kind, example in REQUESTS.items()),
    Target(
        places=("gateway.strict_json:check_json",),
        decode=check_json,
        refusals=(BadRequest,),
        make_examples=lambda: [dump(BUNDLE), b'{"a": [1.5, -2, "\\u00e9", null, true]}'],
        form=JSON,
    ),
    Target(
        places=("gateway.delivery:read_ticket_request",),
        decode=read_ticket_request,
        refusals=(BadRequest,),
        make_examples=lambda: [
            encode(
                TicketRequest(
                    institution=b"i" * 16, height=7, details=b"why", salt=bytes(32), signature=bytes(64)
                )
            )
        ],
        encode=encode,
        form=MSGPACK,
        structure=TicketRequest,
        wrap=encode,
    ),
    Target(
        places=("gateway.delivery:open_delivery",),
        decode=open_copies,
        refusals=(EncodingError,),
        make_examples=lambda: [encode(Copies(copies=()))],
        encode=encode,
        form=MSGPACK,
        structure=Copies,
        wrap=encode,
    ),
    Target(
        places=("gateway.holders:_read_answer",),
        decode=lambda data: _read_answer(HOLDER, 200, data),
        refusals=(CopyRejected,),
        make_examples=lambda: [encode(Delivery(sealed=b"sealed", signature=bytes(64)))],
        encode=encode,
        form=MSGPACK,
        structure=Delivery,
        wrap=encode,
    ),
    Target(
        places=("gateway.accounts:Accounts.get",),
        decode=lambda data: decode_as(Account, data, size_max=ACCOUNT_BYTES_MAX),
        refusals=(EncodingError,),
        make_examples=lambda: [encode(Account(subject=b"s" * 16, role="patient", public_key=b""))],
        encode=encode,
        form=MSGPACK,
        structure=Account,
        wrap=encode,
    ),
    Target(
        places=("gateway.anchoring:Anchoring.follow_up", "gateway.anchoring:Anchoring._check_not_planned"),
        decode=lambda data: decode_as(Plan, data, size_max=PLAN_BYTES_MAX),
        refusals=(EncodingError,),
        make_examples=lambda: [encode(Plan(b"signed", ()))],
        encode=encode,
        form=MSGPACK,
        structure=Plan,
        wrap=encode,
    ),
    Target(
        places=("records.bundles:split_bundle", "records.strict_json:Walker.read_value"),
        decode=split_bundle,
        refusals=(BundleRefused,),
        make_examples=lambda: [dump(BUNDLE)],
        form=JSON,
    ),
    Target(
        places=("records.strict_json:decode_text",),
        decode=decode_text,
        refusals=(JsonRefused,),
        make_examples=lambda: [dump(BUNDLE)],
        form=JSON,
    ),
    Target(
        places=("vault.envelope:Secrets.from_bytes",),
        decode=Secrets.from_bytes,
        refusals=(ValueError,),
        make_examples=lambda: [bytes(64)],
        encode=Secrets.to_bytes,
    ),
    Target(
        places=("vault.envelope:open_version",),
        decode=open_blob,
        refusals=(EnvelopeMismatch,),
        make_examples=lambda: [ENVELOPE.sealed],
    ),
    Target(
        places=("vault.index:Index._open",),
        decode=lambda data: decode_as(VersionEntry, data, size_max=ENTRY_BYTES_MAX),
        refusals=(EncodingError,),
        make_examples=lambda: [
            encode(VersionEntry(1, b"a" * 16, "other", "text/plain", "", "", LEAF, 7, b"", b"", None))
        ],
        encode=encode,
        form=MSGPACK,
        structure=VersionEntry,
        wrap=encode,
    ),
    Target(
        places=("client.transport:Transport.request",),
        decode=ask(Client.get_status),
        refusals=(AnswerRejected,),
        make_examples=lambda: [dump(STATUS)],
        form=JSON,
    ),
    Target(
        places=("client.client:Client.submit",),
        decode=ask(lambda client: client.submit([b"signed"]), status=202),
        refusals=(AnswerRejected,),
        make_examples=lambda: [dump(RESULTS)],
        form=JSON,
    ),
    Target(
        places=("client.client:Client.submit refused",),
        decode=ask(lambda client: client.submit([b"signed"]), status=400),
        refusals=(AnswerRejected, Refused),
        make_examples=lambda: [dump(RESULTS | PROBLEM)],
        form=JSON,
    ),
    Target(
        places=("client.client:Client.events",),
        decode=ask(_take_events),
        refusals=(AnswerRejected,),
        make_examples=lambda: [dump(EVENT)],
        form=JSON,
    ),
    Target(
        places=("client.client:Client.get_openapi",),
        decode=ask(Client.get_openapi),
        refusals=(AnswerRejected,),
        make_examples=lambda: [dump({"openapi": "3.1.0", "paths": {}})],
        form=JSON,
    ),
    Target(
        places=("client.transport:_read_problem",),
        decode=lambda data: _read_problem(404, data),
        refusals=(),
        make_examples=lambda: [dump(PROBLEM)],
        form=JSON,
    ),
)

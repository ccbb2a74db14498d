"""What nodes say to each other and keep: encoding, consensus, ledger, network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

from consensus.certificates import Certificate
from consensus.journal import Entry
from consensus.journal_entries import decode_entries, encode_entry
from consensus.journal_records import JournalRecord, decode_record, encode_record
from consensus.messages import Message, decode_message, encode_message
from consensus.replica_set import ReplicaId, ReplicaSet
from contracts.electorate import ElectorateRow
from crypto.encoding import EncodingError, decode, decode_as, encode
from crypto.signatures import SigningKey
from ledger.block import Header, decode_header
from ledger.block_sync import SyncBlock, decode_sync_block, encode_sync_block
from ledger.epochs import CurrentEpoch, EpochChange
from ledger.errors import BlockRefused, ProofRefused
from ledger.genesis import Genesis, decode_genesis
from ledger.layout import decode_items, encode_items
from ledger.proofs import RECEIPT_MAGIC, STATE_MAGIC, ReceiptProof, StateProof, decode_proof, verify_proof
from ledger.receipt import Receipt, decode_receipt
from ledger.recovery import ELECTORATE_STATE_KEY, Recovery
from ledger.speculation import decode_head, encode_head
from ledger.state_tree import compute_key_hash, compute_value_hash
from ledger.transaction import TransactionBody, TransactionRefused, decode_transaction, encode_transaction
from network.block_sync import BlocksRequest, BlockSync
from network.bodies import BodyFetcher
from network.frames import BadFrame, Channel, decode_frame, encode_frame
from network.requests import Answer, BadRequest, RequestKind, decode_answer, decode_request, encode_answer
from network.sessions import Greeting, Sessions
from tests.consensus.test_messages import MESSAGES, RECORDS
from tests.fuzz.mutations import MSGPACK
from tests.fuzz.target import VECTORS, Target, finish

CHAIN_ID: Final = bytes.fromhex(VECTORS["genesis"]["chain_id"])
HEADER: Final = bytes.fromhex(VECTORS["blocks"][0]["header"])
CERTIFICATE: Final = decode_as(
    Certificate, bytes.fromhex(VECTORS["blocks"][0]["certificate"]), size_max=10_000
)
TRANSACTIONS: Final = tuple(bytes.fromhex(item["signed_bytes"]) for item in VECTORS["transactions"])
ELECTORATE: Final = encode(ElectorateRow(active=((b"h" * 16, bytes(32)),), registered_count=1))
ENTRY: Final = compute_key_hash(ELECTORATE_STATE_KEY) + compute_value_hash(ELECTORATE)
FOUNDERS: Final = decode_genesis(bytes.fromhex(VECTORS["genesis"]["encoding"])).replica_set
RECOVERY: Final = EpochChange(
    HEADER,
    CERTIFICATE,
    ReplicaSet(1, FOUNDERS.members),
    Recovery(signatures=(), electorate=ELECTORATE, count=1, entries=((0, ENTRY, ()),), siblings=()),
)
"""A recovery above a certified block, which no state of the vectors vouches for."""
SYNC_BLOCK: Final = SyncBlock(HEADER, CERTIFICATE, TRANSACTIONS[:3])
RECOVERED_BLOCK: Final = SyncBlock(HEADER, CERTIFICATE, (), (RECOVERY,))
HASH: Final = bytes(range(32))
SIGNATURE: Final = bytes(64)


def make_proofs(*kinds: str) -> Sequence[bytes]:
    return [bytes.fromhex(VECTORS["proofs"][kind]) for kind in kinds]


def check_proof(data: bytes) -> bytes:
    """Decode and verify a proof file: only the very proofs of the vectors may hold."""
    proof = decode_proof(data)
    verify_proof(proof, CHAIN_ID)
    return proof.encode()


class NoLinks:
    """Links that connect to one peer, who answers with the bytes under test."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.penalties: list[str] = []
        self.connected = (ReplicaId(1),)

    async def request(self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int) -> bytes:
        return self.answer

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.penalties.append(reason)

    def take_waiting(self, signed_hashes: object) -> dict[bytes, bytes]:
        return {}


def answer_bodies(payload: bytes) -> bytes | None:
    links = NoLinks()
    return BodyFetcher(links=links, relay=links, get_body=lambda _: TRANSACTIONS[0]).on_request(
        ReplicaId(1), payload
    )


def take_bodies(answer: bytes) -> None:
    """What is taken from a peer's answer is what was asked for; anything else counts against the peer."""
    links = NoLinks(answer)
    fetcher = BodyFetcher(links=links, relay=links, get_body=lambda _: None)
    found = finish(fetcher.fetch([HASH], ReplicaId(1)))
    assert not found, "no bytes were found that hash to 00 01 02 …"
    assert links.penalties or answer == encode(((),)), "a useless answer is counted"


GREETER: Final = SigningKey(b"g" * 32)


def greet() -> bytes:
    return Sessions(ReplicaId(1), CHAIN_ID, GREETER.public_key, GREETER.sign).greet()


def take_greeting(data: bytes) -> None:
    """Whatever is greeted with, one session of a peer and one before it are kept."""
    sessions = Sessions(ReplicaId(0), CHAIN_ID, bytes(32), GREETER.sign)
    sessions.on_greeting(ReplicaId(1), data, {ReplicaId(1): GREETER.public_key})
    assert not sessions.copy_reason


class YoungLedger:
    """As much of a ledger as block sync looks at: one at its genesis."""

    epoch = CurrentEpoch(replica_set=FOUNDERS, base_height=0, closing=None)

    @property
    def head(self) -> Any:
        return SimpleNamespace(height=0, certificate=None)


def make_block_sync(links: NoLinks, on_failure: Callable[[BaseException], None]) -> BlockSync:
    async def apply(block: SyncBlock) -> bool:
        raise BlockRefused("test", "a block", "none")

    return BlockSync(
        links=links,
        chain=YoungLedger(),
        apply=apply,
        serve=lambda height, count, size: [SYNC_BLOCK][:count],
        on_synced=lambda *synced: None,
        on_failure=on_failure,
    )


def answer_blocks(payload: bytes) -> bytes | None:
    failures: list[BaseException] = []
    return make_block_sync(NoLinks(), failures.append).on_request(ReplicaId(1), payload)


def take_blocks(answer: bytes) -> None:
    """A wrong answer is refused once and counted against the peer, whatever it is."""

    async def run() -> None:
        links, failures = NoLinks(answer), list[BaseException]()
        sync = make_block_sync(links, failures.append)
        sync.request(10, ReplicaId(1))
        while sync.is_running:  # noqa: ASYNC110 - nothing else runs here
            await asyncio.sleep(0)
        assert not failures
        assert sync.counters.refused == len(links.penalties) == 1

    asyncio.run(run())


WIRE_TARGETS: Final = (
    Target(
        places=("crypto.encoding:decode",),
        decode=lambda data: decode(data, size_max=100_000),
        refusals=(EncodingError,),
        make_examples=lambda: [encode((1, b"x", "text", (True, None, (2**63, -5))))],
        encode=encode,
        form=MSGPACK,
    ),
    Target(
        places=("consensus.messages:decode_message", "crypto.encoding:decode_as"),
        decode=decode_message,
        refusals=(EncodingError,),
        make_examples=lambda: [encode_message(message) for message in MESSAGES],
        encode=encode_message,
        form=MSGPACK,
        structure=Message,
        wrap=lambda message: encode((1, message)),
    ),
    Target(
        places=("consensus.journal_records:decode_record",),
        decode=decode_record,
        refusals=(EncodingError,),
        make_examples=lambda: [encode_record(record) for record in RECORDS],
        encode=encode_record,
        form=MSGPACK,
        structure=JournalRecord,
        wrap=lambda record: encode((1, record)),
    ),
    Target(
        places=("consensus.journal_entries:decode_entries",),
        decode=lambda data: decode_entries([Entry(1, 0, data)]),
        refusals=(EncodingError,),
        make_examples=lambda: [encode_entry(record, TRANSACTIONS).data for record in RECORDS],
        form=MSGPACK,
    ),
    Target(
        places=("ledger.block:decode_header",),
        decode=decode_header,
        refusals=(EncodingError,),
        make_examples=lambda: [HEADER],
        encode=encode,
        form=MSGPACK,
        structure=Header,
        wrap=encode,
    ),
    Target(
        places=("ledger.archive:Archive.get_certificate",),
        decode=lambda data: decode_as(Certificate, data, size_max=100_000),
        refusals=(EncodingError,),
        make_examples=lambda: [encode(CERTIFICATE)],
        encode=encode,
        form=MSGPACK,
        structure=Certificate,
        wrap=encode,
    ),
    Target(
        places=("ledger.transaction:decode_transaction",),
        decode=decode_transaction,
        refusals=(TransactionRefused,),
        make_examples=lambda: TRANSACTIONS,
        encode=encode_transaction,
        form=MSGPACK,
        start=64,
        structure=TransactionBody,
        wrap=lambda body: SIGNATURE + encode(body),
    ),
    Target(
        places=("ledger.receipt:decode_receipt",),
        decode=decode_receipt,
        refusals=(EncodingError,),
        make_examples=lambda: [bytes.fromhex(item["encoding"]) for item in VECTORS["blocks"][0]["receipts"]],
        encode=encode,
        form=MSGPACK,
        structure=Receipt,
        wrap=encode,
    ),
    Target(
        places=("ledger.genesis:decode_genesis",),
        decode=decode_genesis,
        refusals=(EncodingError,),
        make_examples=lambda: [bytes.fromhex(VECTORS["genesis"]["encoding"])],
        encode=encode,
        form=MSGPACK,
        structure=Genesis,
        wrap=encode,
    ),
    Target(
        places=("ledger.block_sync:decode_sync_block",),
        decode=decode_sync_block,
        refusals=(EncodingError,),
        make_examples=lambda: [encode_sync_block(SYNC_BLOCK), encode_sync_block(RECOVERED_BLOCK)],
        encode=encode_sync_block,
        form=MSGPACK,
        structure=SyncBlock,
        wrap=encode,
    ),
    Target(
        places=("ledger.proofs:decode_proof",),
        decode=decode_proof,
        refusals=(ProofRefused,),
        make_examples=lambda: make_proofs("receipt"),
        encode=lambda proof: proof.encode(),
        form=MSGPACK,
        start=len(RECEIPT_MAGIC),
        structure=ReceiptProof,
        wrap=lambda proof: RECEIPT_MAGIC + encode(proof),
    ),
    Target(
        places=("ledger.proofs:verify_receipt_proof",),
        decode=check_proof,
        refusals=(ProofRefused,),
        make_examples=lambda: make_proofs("receipt"),
        form=MSGPACK,
        start=len(RECEIPT_MAGIC),
    ),
    Target(
        places=("ledger.proofs:verify_state_proof",),
        decode=check_proof,
        refusals=(ProofRefused,),
        make_examples=lambda: make_proofs("present", "absent"),
        form=MSGPACK,
        start=len(STATE_MAGIC),
        structure=StateProof,
        wrap=lambda proof: STATE_MAGIC + encode(proof),
    ),
    Target(
        places=("ledger.layout:decode_items",),
        decode=decode_items,
        refusals=(EncodingError,),
        make_examples=lambda: [encode_items(TRANSACTIONS)],
        encode=encode_items,
        form=MSGPACK,
    ),
    Target(
        places=("ledger.speculation:decode_head",),
        decode=decode_head,
        refusals=(EncodingError, ValueError),
        make_examples=lambda: [encode_head(7, (bytes(32), HASH))],
        form=MSGPACK,
    ),
    Target(
        places=("network.frames:decode_frame",),
        decode=decode_frame,
        refusals=(BadFrame,),
        make_examples=lambda: [encode_frame(channel, [b"one", b"two", bytes(80)]) for channel in Channel],
        form=MSGPACK,
    ),
    Target(
        places=("network.requests:decode_request",),
        decode=decode_request,
        refusals=(BadRequest,),
        make_examples=lambda: [encode((7, RequestKind.BLOCKS, b"payload"))],
        form=MSGPACK,
    ),
    Target(
        places=("network.requests:decode_answer",),
        decode=decode_answer,
        refusals=(BadRequest,),
        make_examples=lambda: [encode_answer(Answer(7, b"payload")), encode_answer(Answer(7, None))],
        form=MSGPACK,
    ),
    Target(
        places=("network.sessions:Sessions.on_greeting",),
        decode=take_greeting,
        refusals=(BadRequest,),
        make_examples=lambda: [greet()],
        form=MSGPACK,
        structure=Greeting,
        wrap=encode,
    ),
    Target(
        places=("network.bodies:BodyFetcher.on_request",),
        decode=answer_bodies,
        refusals=(BadRequest,),
        make_examples=lambda: [HASH, HASH * 3],
    ),
    Target(
        places=("network.bodies:BodyFetcher._ask",),
        decode=take_bodies,
        refusals=(),
        make_examples=lambda: [encode((TRANSACTIONS,)), encode(((),))],
        form=MSGPACK,
    ),
    Target(
        places=("network.block_sync:BlockSync.on_request",),
        decode=answer_blocks,
        refusals=(BadRequest,),
        make_examples=lambda: [encode(BlocksRequest(1, 10))],
        form=MSGPACK,
    ),
    Target(
        places=("network.block_sync:BlockSync._take_from", "network.block_sync:BlockSync._decode"),
        decode=take_blocks,
        refusals=(),
        make_examples=lambda: [encode(((SYNC_BLOCK,),)), encode(((),))],
        form=MSGPACK,
    ),
)

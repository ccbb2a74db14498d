"""Transactions on their way into the mempools of all nodes.

Whatever comes from a client here is decoded and verified once, taken in, and relayed to the other nodes in
frames; what they relay is decoded and verified here once and goes no further, since they told everybody.

Verification is the cost that counts, so it is shared out: a small chunk for each peer in turn, and everything
else has its turn after each chunk. A peer that relays a badly signed transaction is not listened to for a
while; its votes are not touched by that.

Nothing here is a promise: what a full queue drops is fetched when a block names it, and while it waits too
long the oldest pending transaction is sent to the primary once more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from consensus.replica_set import ReplicaId
from crypto.hashing import compute_digest
from crypto.signatures import SIGNATURE_BYTES
from ledger.block_rules import BlockHead
from ledger.mempool import Mempool
from ledger.transaction import (
    SignedTransaction,
    TransactionRefused,
    decode_transaction,
    encode_transaction,
)
from network.settings import RelaySettings

ACCEPTED: Final = "accepted"

_CUT_CODES: Final = frozenset({"malformed", "too_large", "bad_signature", "wrong_chain"})
"""What no honest node relays, since it checks the same bytes alike at any time."""

_ROOM_CODES: Final = frozenset({"mempool_full", "sender_share_full"})
"""What is taken later, once blocks have made room."""

_log = structlog.get_logger("network.relay")


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What became of one submitted transaction."""

    transaction_id: bytes | None
    """None when the bytes are no transaction."""
    code: str
    """`accepted`, or a code of `ledger.mempool.CODES`."""
    message: str
    """What was found, what was expected and what to do; empty when accepted."""


class RelayedChain(Protocol):
    """The part of the ledger that admission needs."""

    @property
    def mempool(self) -> Mempool: ...

    @property
    def head(self) -> BlockHead: ...


class TransactionSender(Protocol):
    """The part of the links that the relay needs."""

    def broadcast_transactions(self, signed: list[bytes]) -> None: ...

    def send_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None: ...


@dataclass(slots=True)
class RelayCounters:
    """Since the node's start; for metrics."""

    submitted: int = 0
    received: int = 0
    """From peers."""
    accepted: int = 0
    refused: int = 0
    """By clients' fault, duplicates included."""
    dropped: int = 0
    """Of peers, beyond their bounds or while cut."""
    cuts: int = 0
    """Times a peer's relay was cut."""
    frames: int = 0
    """Frames that were relayed to all peers."""


class TransactionRelay:
    """Takes in, verifies and passes on transactions; all methods on the event loop."""

    def __init__(
        self,
        *,
        chain: RelayedChain,
        links: TransactionSender,
        on_pending: Callable[[bytes | None], None],
        on_failure: Callable[[BaseException], None] = lambda error: None,
        settings: RelaySettings | None = None,
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        """`on_pending` is told the oldest pending transaction after each chunk that added some;
        `on_failure` what ended the verifying of relayed transactions: a defect or the disk."""
        self._chain = chain
        self._links = links
        self._on_pending = on_pending
        self._on_failure = on_failure
        self._settings = settings or RelaySettings()
        self._clock_ms = clock_ms
        self._inbox: dict[ReplicaId, _Inbox] = {}
        self._has_work = asyncio.Event()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._flushed_ms = 0
        self._flush_handle: asyncio.Handle | None = None
        self._worker: asyncio.Task[None] | None = None
        self.counters = RelayCounters()

    def start(self) -> None:
        """Begin to verify what peers relay."""
        self._worker = asyncio.create_task(self._work())
        self._worker.add_done_callback(self._on_worker_done)

    async def close(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        error = None if worker.cancelled() else worker.exception()
        if error is not None:
            self._on_failure(error)

    # From clients

    async def submit(self, signed: Sequence[bytes]) -> list[SubmitResult]:
        """Take in a client's transactions; each is answered, in order. Never raises for their faults."""
        results: list[SubmitResult] = []
        chunk = self._settings.verification_chunk_max
        for start in range(0, len(signed), chunk):
            if start:
                await asyncio.sleep(0)
            results += self._admit_chunk(signed[start : start + chunk])
        self.counters.submitted += len(signed)
        return results

    def _admit_chunk(self, signed: Sequence[bytes]) -> list[SubmitResult]:
        results = []
        mempool, head_time_ms = self._chain.mempool, self._chain.head.header.time_ms
        accepted = 0
        for signed_bytes in signed:
            transaction: SignedTransaction | None = None
            try:
                transaction = decode_transaction(signed_bytes)
                mempool.verify_and_add(transaction, head_time_ms=head_time_ms)
            except TransactionRefused as error:
                identifier = None if transaction is None else transaction.transaction_id
                results.append(SubmitResult(identifier, error.code, str(error)))
            else:
                accepted += 1
                results.append(SubmitResult(transaction.transaction_id, ACCEPTED, ""))
                self._gather(signed_bytes)
        self.counters.refused += len(signed) - accepted
        self._tell(accepted)
        return results

    # To peers

    def _gather(self, signed_bytes: bytes) -> None:
        """Relay with what comes soon after; at once when the relay has been quiet."""
        self._outbox.append(signed_bytes)
        self._outbox_bytes += len(signed_bytes)
        settings = self._settings
        if (
            len(self._outbox) >= settings.batch_transactions_max
            or self._outbox_bytes >= settings.batch_bytes_max
        ):
            self._flush()
        elif self._flush_handle is None:
            loop = asyncio.get_running_loop()
            wait_ms = self._flushed_ms + settings.delay_ms - self._clock_ms()
            if wait_ms <= 0:
                self._flush_handle = loop.call_soon(self._flush)
            else:
                self._flush_handle = loop.call_later(wait_ms / 1_000, self._flush)

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._outbox:
            return
        gathered, self._outbox, self._outbox_bytes = self._outbox, [], 0
        self._flushed_ms = self._clock_ms()
        self._links.broadcast_transactions(gathered)
        self.counters.frames += 1

    def forward_oldest(self, primary: ReplicaId) -> None:
        """Send the oldest pending transaction to the primary once more: it may never have seen it."""
        mempool = self._chain.mempool
        oldest = mempool.oldest
        transaction = None if oldest is None else mempool.get(oldest)
        if transaction is not None:
            self._links.send_transactions(primary, [encode_transaction(transaction)])

    def send_pending(self, replica: ReplicaId) -> None:
        """A peer is connected (again) and may have missed what is pending: tell it, in frames."""
        settings = self._settings
        count, size = settings.batch_transactions_max, settings.batch_bytes_max
        pending = self._chain.mempool.take(settings.peer_transactions_max, settings.peer_bytes_max)
        frame: list[bytes] = []
        frame_bytes = 0
        for transaction in pending:
            frame.append(encode_transaction(transaction))
            frame_bytes += transaction.size_bytes
            if len(frame) >= count or frame_bytes >= size:
                self._links.send_transactions(replica, frame)
                frame, frame_bytes = [], 0
        if frame:
            self._links.send_transactions(replica, frame)

    # From peers

    @property
    def waiting_count(self) -> int:
        """Relayed transactions that wait for verification."""
        return sum(len(inbox.waiting) for inbox in self._inbox.values())

    def take_waiting(self, signed_hashes: Container[bytes]) -> dict[bytes, bytes]:
        """Take those that a proposal names out of turn, unverified; whoever takes them verifies them.

        About a microsecond for each transaction that waits.
        """
        taken: dict[bytes, bytes] = {}
        for inbox in self._inbox.values():
            taken.update(inbox.take_named(signed_hashes))
        return taken

    def on_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None:
        """A frame came from a peer; it waits for its turn."""
        inbox = self._inbox.get(replica)
        if inbox is None:
            inbox = self._inbox[replica] = _Inbox()
        self.counters.received += len(signed)
        if self._clock_ms() < inbox.cut_until_ms:
            self.counters.dropped += len(signed)
            return
        inbox.put(signed)
        self.counters.dropped += inbox.shrink(
            self._settings.peer_transactions_max, self._settings.peer_bytes_max
        )
        self._has_work.set()

    async def _work(self) -> None:
        """A chunk of each peer in turn, for ever."""
        while True:
            await self._has_work.wait()
            for replica, inbox in tuple(self._inbox.items()):
                if inbox.is_due(self._clock_ms()):
                    self._verify_chunk(replica, inbox)
                    await asyncio.sleep(0)
            if not any(inbox.is_due(self._clock_ms()) for inbox in self._inbox.values()):
                self._has_work.clear()
                if self.waiting_count:
                    pause_seconds = self._settings.room_pause_ms / 1_000
                    asyncio.get_running_loop().call_later(pause_seconds, self._has_work.set)

    def _verify_chunk(self, replica: ReplicaId, inbox: _Inbox) -> None:
        mempool, head_time_ms = self._chain.mempool, self._chain.head.header.time_ms
        accepted = 0
        chunk = inbox.take(self._settings.verification_chunk_max)
        for number, signed_bytes in enumerate(chunk, start=1):
            try:
                transaction = decode_transaction(signed_bytes)
                mempool.verify_and_add(transaction, head_time_ms=head_time_ms, is_relayed=True)
            except TransactionRefused as error:
                self.counters.refused += 1
                if error.code in _ROOM_CODES:
                    # Honest peers admit less than others have room for; what is a flood waits and gives way.
                    inbox.paused_until_ms = self._clock_ms() + self._settings.room_pause_ms
                    break
                if error.code in _CUT_CODES or self._is_one_stranger_too_many(inbox, error):
                    self.counters.dropped += len(chunk) - number
                    self._cut(replica, inbox, error)
                    break
            else:
                accepted += 1
        self._tell(accepted)

    def _is_one_stranger_too_many(self, inbox: _Inbox, error: TransactionRefused) -> bool:
        """Refusing strangers is cheap, refusing as many as a peer can send is not (rule D1)."""
        if error.code != "unknown_sender":
            return False
        now_ms = self._clock_ms()
        if now_ms - inbox.strangers_since_ms > self._settings.cut_ms:
            inbox.strangers, inbox.strangers_since_ms = 0, now_ms
        inbox.strangers += 1
        return inbox.strangers > self._settings.strangers_max

    def _cut(self, replica: ReplicaId, inbox: _Inbox, error: TransactionRefused) -> None:
        inbox.cut_until_ms = self._clock_ms() + self._settings.cut_ms
        self.counters.cuts += 1
        self.counters.dropped += inbox.clear()
        _log.warning("relay cut", replica=replica, code=error.code, for_ms=self._settings.cut_ms)

    def _tell(self, accepted: int) -> None:
        if accepted:
            self.counters.accepted += accepted
            self._on_pending(self._chain.mempool.oldest)


def compute_signed_hash(signed_bytes: bytes) -> bytes:
    """What a proposal names a transaction by, without decoding it."""
    return compute_digest(signed_bytes[SIGNATURE_BYTES:], signed_bytes[:SIGNATURE_BYTES])


class _Inbox:
    """What one peer has relayed and waits for verification."""

    __slots__ = (
        "cut_until_ms",
        "paused_until_ms",
        "size_bytes",
        "strangers",
        "strangers_since_ms",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.size_bytes = 0
        self.cut_until_ms = 0
        self.paused_until_ms = 0
        self.strangers = 0
        """Transactions of unknown senders since the moment that follows."""
        self.strangers_since_ms = 0

    def is_due(self, now_ms: int) -> bool:
        return bool(self.waiting) and now_ms >= self.paused_until_ms

    def put(self, signed: list[bytes]) -> None:
        self.waiting.extend(signed)
        self.size_bytes += sum(map(len, signed))

    def shrink(self, transactions_max: int, bytes_max: int) -> int:
        """Drop the oldest beyond the bounds; how many gave way."""
        dropped = 0
        while self.waiting and (len(self.waiting) > transactions_max or self.size_bytes > bytes_max):
            self.size_bytes -= len(self.waiting.popleft())
            dropped += 1
        return dropped

    def take(self, count_max: int) -> list[bytes]:
        taken = [self.waiting.popleft() for _ in range(min(count_max, len(self.waiting)))]
        self.size_bytes -= sum(map(len, taken))
        return taken

    def take_named(self, signed_hashes: Container[bytes]) -> dict[bytes, bytes]:
        taken: dict[bytes, bytes] = {}
        left: deque[bytes] = deque()
        for signed_bytes in self.waiting:
            signed_hash = compute_signed_hash(signed_bytes)
            if signed_hash in signed_hashes:
                taken[signed_hash] = signed_bytes
                self.size_bytes -= len(signed_bytes)
            else:
                left.append(signed_bytes)
        self.waiting = left
        return taken

    def clear(self) -> int:
        dropped = len(self.waiting)
        self.waiting.clear()
        self.size_bytes = 0
        return dropped

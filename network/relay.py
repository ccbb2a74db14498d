"""Transactions on their way into the mempools of all nodes.

Whatever comes from a client here is decoded and verified once, taken in, and relayed to the other nodes in
frames; what they relay is decoded and verified here once and goes no further, since they told everybody.

Verification is the cost that counts, so it is shared out: a small chunk for each peer in turn, and everything
else has its turn after each chunk. A peer that relays a badly signed transaction is not listened to for a
while; its votes are not touched by that.

Nothing here is a promise: what a full queue drops is fetched when a block names it, and while it waits too
long the oldest pending transaction is sent to the primary once more, for its next block (rule L3).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

import structlog

from consensus.replica_set import ReplicaId, ReplicaSet
from ledger.block_rules import BlockHead
from ledger.mempool import Mempool
from ledger.transaction import (
    SignedTransaction,
    TransactionRefused,
    decode_transaction,
    encode_transaction,
)
from network.relay_inbox import RelayInbox
from network.relay_outbox import RelayOutbox
from network.settings import RelaySettings

ACCEPTED: Final = "accepted"

_CUT_CODES: Final = frozenset({"malformed", "too_large", "bad_signature", "wrong_chain"})
"""What no honest node relays, since it checks the same bytes alike at any time."""

_ROOM_CODES: Final = frozenset({"mempool_full", "share_full"})
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

    @property
    def replica_set(self) -> ReplicaSet: ...


class TransactionSender(Protocol):
    """The part of the links that the relay needs."""

    def broadcast_transactions(self, signed: list[bytes]) -> None: ...

    def send_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None: ...

    def send_oldest(self, replica: ReplicaId, signed: bytes) -> None: ...


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
        self._inboxes: dict[ReplicaId, RelayInbox] = {}
        self._has_work = asyncio.Event()
        self._outbox = RelayOutbox(self._broadcast, self._settings, clock_ms)
        self._worker: asyncio.Task[None] | None = None
        self.counters = RelayCounters()

    def start(self) -> None:
        """Begin to verify what peers relay."""
        self._worker = asyncio.create_task(self._work())
        self._worker.add_done_callback(self._on_worker_done)

    async def close(self) -> None:
        self._outbox.close()
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
                self._outbox.put(signed_bytes)
        self.counters.refused += len(signed) - accepted
        self._tell(accepted)
        return results

    # To peers

    def _broadcast(self, signed: list[bytes]) -> None:
        self._links.broadcast_transactions(signed)
        self.counters.frames += 1

    def forward_oldest(self, primary: ReplicaId) -> None:
        """Send the oldest pending transaction to the primary, which may never have seen it, have no room for
        it, or have much else before it."""
        mempool = self._chain.mempool
        oldest = mempool.oldest
        transaction = None if oldest is None else mempool.get(oldest)
        if transaction is not None:
            self._links.send_oldest(primary, encode_transaction(transaction))

    def send_pending(self, replica: ReplicaId) -> None:
        """A peer is connected (again) and may have missed what is pending: tell it, in frames."""
        settings = self._settings
        count, size = settings.batch_transactions_max, settings.batch_bytes_max
        frame: list[bytes] = []
        frame_bytes, left = 0, settings.peer_bytes_max
        for transaction in islice(self._chain.mempool, settings.peer_transactions_max):
            left -= transaction.size_bytes
            if left < 0:
                break
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
        return sum(map(len, self._inboxes.values()))

    def take_waiting(self, signed_hashes: Container[bytes]) -> dict[bytes, bytes]:
        """Take those that a proposal names out of turn, unverified; whoever takes them verifies them."""
        taken: dict[bytes, bytes] = {}
        for inbox in self._inboxes.values():
            taken.update(inbox.take_named(signed_hashes))
        return taken

    def on_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None:
        """A frame came from a peer; it waits for its turn."""
        inbox = self._get_inbox(replica)
        self.counters.received += len(signed)
        self.counters.dropped += inbox.put(signed)
        if len(inbox):
            self._has_work.set()

    def on_oldest(self, replica: ReplicaId, signed: bytes) -> None:
        """A peer has waited for this one longest; only members have a timer, and may put anything first."""
        self.counters.received += 1
        if self._chain.replica_set.has(replica):
            self._get_inbox(replica).put_oldest(signed)
            self._has_work.set()
        else:
            self.counters.dropped += 1

    def _get_inbox(self, replica: ReplicaId) -> RelayInbox:
        inbox = self._inboxes.get(replica)
        if inbox is None:
            inbox = self._inboxes[replica] = RelayInbox(self._settings, self._clock_ms)
        return inbox

    async def _work(self) -> None:
        """A chunk of each peer in turn, for ever."""
        while True:
            await self._has_work.wait()
            for replica, inbox in tuple(self._inboxes.items()):
                if inbox.has_oldest:
                    self._verify_oldest(replica, inbox)
                    await asyncio.sleep(0)
                if inbox.is_due:
                    self._verify_chunk(replica, inbox)
                    await asyncio.sleep(0)
            if not any(inbox.is_due or inbox.has_oldest for inbox in self._inboxes.values()):
                self._has_work.clear()
                if self.waiting_count:
                    pause_seconds = self._settings.room_pause_ms / 1_000
                    asyncio.get_running_loop().call_later(pause_seconds, self._has_work.set)

    def _verify_oldest(self, replica: ReplicaId, inbox: RelayInbox) -> None:
        mempool, head_time_ms = self._chain.mempool, self._chain.head.header.time_ms
        try:
            transaction = decode_transaction(inbox.take_oldest())
            mempool.verify_and_put_first(transaction, replica, head_time_ms=head_time_ms)
        except TransactionRefused as error:
            self.counters.refused += 1
            if self._is_fault(inbox, error):
                self._cut(replica, inbox, error)
        else:
            self._tell(1)

    def _verify_chunk(self, replica: ReplicaId, inbox: RelayInbox) -> None:
        mempool, head_time_ms = self._chain.mempool, self._chain.head.header.time_ms
        accepted = 0
        waiting: list[bytes] = []
        chunk = inbox.take()
        for number, signed_bytes in enumerate(chunk, start=1):
            try:
                transaction = decode_transaction(signed_bytes)
                mempool.verify_and_add(transaction, head_time_ms=head_time_ms, is_relayed=True)
            except TransactionRefused as error:
                self.counters.refused += 1
                if error.code in _ROOM_CODES:
                    waiting.append(signed_bytes)
                    continue
                if self._is_fault(inbox, error):
                    self.counters.dropped += len(chunk) - number
                    self._cut(replica, inbox, error)
                    break
            else:
                accepted += 1
        if waiting:
            # It goes behind what others may have room for. Honest peers admit less than there is room here.
            self.counters.dropped += inbox.put(waiting)
            if not accepted:
                inbox.pause()
        self._tell(accepted)

    def _is_fault(self, inbox: RelayInbox, error: TransactionRefused) -> bool:
        """Whether no honest node relays what was refused so."""
        # Refusing strangers is cheap, refusing as many as a peer can send is not (rule D1).
        is_stranger = error.code == "unknown_sender"
        return error.code in _CUT_CODES or (is_stranger and inbox.is_one_stranger_too_many())

    def _cut(self, replica: ReplicaId, inbox: RelayInbox, error: TransactionRefused) -> None:
        self.counters.cuts += 1
        self.counters.dropped += inbox.cut()
        _log.warning("relay cut", replica=replica, code=error.code, for_ms=self._settings.cut_ms)

    def _tell(self, accepted: int) -> None:
        if accepted:
            self.counters.accepted += accepted
            self._on_pending(self._chain.mempool.oldest)

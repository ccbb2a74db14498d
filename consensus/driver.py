"""The driver: runs one replica on a real clock, disk and network.

It feeds events to `Replica.step` in batches and carries the merged effects out in the one safe order:
everything to persist is synced, then everything to send leaves, then everything is applied. Merging keeps
the order: no message of a batch leaves before all records of that batch are on disk.

It decides nothing. Whatever goes wrong here ends the process: a replica that cannot write its journal or
apply a block must not go on talking.

Errors:
    JournalFailed (consensus.journal)   the disk's
    ReplicaHalted                       the replica must not go on; its reason is the message
    whatever a port raises              a disk error of the ledger, or a defect
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from consensus.certificates import Certificate
from consensus.effects import (
    Action,
    Build,
    CommitBlock,
    Discard,
    Effects,
    ForwardOldest,
    Halt,
    ReportEvidence,
    ReportRefusal,
    RequestSync,
    Send,
    TruncateJournal,
    Validate,
)
from consensus.events import (
    BlockDurable,
    ChainSynced,
    Event,
    MessageReceived,
    PeerConnected,
    PendingChanged,
    ProposalBuilt,
    ProposalValidated,
    Tick,
)
from consensus.inbox import Inbox
from consensus.journal import Entry, Journal
from consensus.journal_entries import encode_entry
from consensus.journal_records import JournalRecord, ProposalRecord
from consensus.messages import Vote, decode_message, encode_message
from consensus.ports import Application, BlockSync, Relay, Transport
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from consensus.replica_status import ReplicaStatus
from crypto.encoding import EncodingError

Clock = Callable[[], tuple[int, int]]
"""Monotonic and wall-clock milliseconds."""


class ReplicaHalted(Exception):
    """The replica asked to be stopped; the message says why. An operator must look before it starts again."""


class Steppable(Protocol):
    """The replica as the driver sees it."""

    def step(self, event: Event) -> Effects: ...

    @property
    def status(self) -> ReplicaStatus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """Bounds of what waits for the replica."""

    tick_interval_ms: int = 20
    """How often the replica is told the time."""
    peer_messages_max: int = 4_096
    """Messages of one peer that wait undecoded; further ones are dropped and counted."""
    peer_bytes_max: int = 16_777_216
    """Bytes of one peer's waiting messages."""
    peer_messages_per_tick: int = 32
    """Messages of one peer that are handled between two ticks; an honest peer sends a few for each block."""
    batch_messages_max: int = 128
    """Messages handled before effects are carried out."""


@dataclass(slots=True, kw_only=True)
class DriverCounters:
    """What the driver has seen since its start; for metrics."""

    messages_received: int = 0
    messages_dropped: int = 0
    """Beyond a peer's bound."""
    messages_undecodable: int = 0
    messages_sent: int = 0
    refusals: Counter[ReplicaId] = field(default_factory=Counter)
    """What no honest replica sends, by sender."""
    journal_syncs: int = 0
    equivocations: int = 0
    proposals_refused: int = 0


def read_clock() -> tuple[int, int]:
    """The real clock."""
    return time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000


class Driver:
    """Runs `replica` until stopped; see the module's docstring. All methods on the event loop."""

    def __init__(
        self,
        *,
        replica: Steppable,
        replica_id: ReplicaId,
        application: Application,
        transport: Transport,
        block_sync: BlockSync,
        relay: Relay,
        journal: Journal,
        writer: Executor,
        settings: DriverSettings | None = None,
        clock: Clock = read_clock,
        on_evidence: Callable[[Vote, Vote], None] = lambda first, second: None,
        on_refusal: Callable[[ReplicaId, str], None] = lambda sender, reason: None,
    ) -> None:
        """`writer` is the one thread that writes: the journal here, blocks in the application."""
        self._replica = replica
        self._replica_id = replica_id
        self._application = application
        self._transport = transport
        self._block_sync = block_sync
        self._relay = relay
        self._journal = journal
        self._writer = writer
        self._settings = settings or DriverSettings()
        self._clock = clock
        self._on_evidence = on_evidence
        self._on_refusal = on_refusal
        self._wake = asyncio.Event()
        self._events: deque[Event] = deque()
        self._inbox = Inbox(
            peer_messages_max=self._settings.peer_messages_max,
            peer_bytes_max=self._settings.peer_bytes_max,
            peer_messages_per_tick=self._settings.peer_messages_per_tick,
        )
        self._oldest: bytes | None = None
        self._oldest_told: bytes | None = None
        self._is_tick_due = True
        self._is_stopping = False
        self._truncate_height: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self.counters = DriverCounters()

    @property
    def status(self) -> ReplicaStatus:
        return self._replica.status

    async def run(self) -> None:
        """Drive until `stop`. Raises what ended it otherwise; see the module's docstring."""
        ticker = asyncio.create_task(self._tick())
        try:
            while not self._is_stopping:
                await self._wake.wait()
                self._wake.clear()
                await self._turn()
                if self._failure is not None:
                    raise self._failure
                await asyncio.sleep(0)
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._failure is not None:
                raise self._failure
        finally:
            for task in (ticker, *self._tasks):
                task.cancel()

    def stop(self) -> None:
        """Let `run` return once what is being applied has been applied."""
        self._is_stopping = True
        self._wake.set()

    def post_message(self, sender: ReplicaId, data: bytes) -> None:
        """Bytes came from an authenticated peer; dropped and counted beyond the peer's bound."""
        self.counters.messages_received += 1
        if self._inbox.put(sender, data):
            self._wake.set()
        else:
            self.counters.messages_dropped += 1

    def post_oldest_pending(self, oldest: bytes | None) -> None:
        """The signed hash of the transaction that has waited longest, or None."""
        self._oldest = oldest
        if oldest != self._oldest_told:
            self._wake.set()

    def post_peer_connected(self, replica: ReplicaId) -> None:
        self._post(PeerConnected(replica=replica))

    def post_chain_synced(
        self,
        height: Height,
        digest: bytes,
        certificate: Certificate,
        replica_set: ReplicaSet,
        closing: Certificate | None = None,
    ) -> None:
        """Block sync has made the blocks up to `height` durable; `closing` as in `ChainSynced`."""
        self._post(
            ChainSynced(
                height=height,
                digest=digest,
                certificate=certificate,
                replica_set=replica_set,
                closing=closing,
            )
        )

    def _post(self, event: Event) -> None:
        self._events.append(event)
        self._wake.set()

    async def _tick(self) -> None:
        while True:
            self._is_tick_due = True
            self._wake.set()
            await asyncio.sleep(self._settings.tick_interval_ms / 1_000)

    async def _turn(self) -> None:
        """One batch of events: step, then persist, then send, then apply."""
        records: list[JournalRecord] = []
        sends: list[Send] = []
        actions: list[Action] = []
        for event in self._take_events():
            effects = self._replica.step(event)
            records += effects.persist
            sends += effects.send
            actions += effects.apply
        if records:
            await self._persist(records)
        elif self._journal.is_missing and _is_voting(self._replica.status):
            await self._write(self._journal.confirm)
        for send in sends:
            self._send(send)
        for action in actions:
            self._apply(action)

    def _take_events(self) -> list[Event]:
        """Time first, then outcomes of my own actions, then messages."""
        events: list[Event] = []
        if self._is_tick_due:
            self._is_tick_due = False
            self._inbox.tick()
            monotonic_ms, wall_ms = self._clock()
            self._application.note_time(wall_ms)
            events.append(Tick(monotonic_ms=monotonic_ms, wall_ms=wall_ms))
        if self._oldest != self._oldest_told:
            # Before a block's end is told: the next build must know whether anything is left to propose.
            self._oldest_told = self._oldest
            events.append(PendingChanged(oldest=self._oldest))
        events += self._events
        self._events.clear()
        for sender, data in self._inbox.take(self._settings.batch_messages_max):
            try:
                message = decode_message(data)
            except EncodingError as error:
                self.counters.messages_undecodable += 1
                self._refuse(sender, f"consensus message: {error}")
            else:
                events.append(MessageReceived(sender=sender, message=message))
        if self._inbox.has_due():
            self._wake.set()
        return events

    async def _persist(self, records: Sequence[JournalRecord]) -> None:
        entries = [
            encode_entry(
                record,
                self._application.get_bodies(record.proposal) if isinstance(record, ProposalRecord) else (),
            )
            for record in records
        ]
        truncate_height, self._truncate_height = self._truncate_height, None
        await self._write(lambda: self._append(entries, truncate_height))
        self.counters.journal_syncs += 1

    def _append(self, entries: Sequence[Entry], truncate_height: int | None) -> None:
        """In the writer thread."""
        self._journal.append(entries)
        if truncate_height is not None:
            self._journal.truncate(truncate_height)

    async def _write(self, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, call)

    def _send(self, send: Send) -> None:
        data = encode_message(send.message)
        self.counters.messages_sent += 1
        if send.to is None:
            self._transport.broadcast(data)
        else:
            self._transport.send(send.to, data)

    def _refuse(self, sender: ReplicaId, reason: str) -> None:
        self.counters.refusals[sender] += 1
        self._transport.penalise(sender, reason)
        self._on_refusal(sender, reason)

    def _apply(self, action: Action) -> None:
        match action:
            case Build():
                self._start(self._build(action))
            case Validate():
                self._start(self._validate(action))
            case CommitBlock():
                self._start(self._commit(action))
            case Discard():
                self._application.discard(action.proposal)
            case RequestSync():
                self._block_sync.request(action.height, action.source)
            case ForwardOldest():
                self._relay.forward_oldest(action.primary)
            case TruncateJournal():
                self._truncate_height = action.height
                self._application.forget_through(action.height)
            case ReportEvidence():
                self.counters.equivocations += 1
                self._on_evidence(action.first, action.second)
            case ReportRefusal():
                self._refuse(action.sender, action.reason)
            case Halt():
                raise ReplicaHalted(action.reason)
            case _:
                assert_never(action)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._wake.set()

    async def _build(self, action: Build) -> None:
        _, wall_ms = self._clock()
        proposal = await self._application.build(
            epoch=action.epoch,
            height=action.height,
            proposer=self._replica_id,
            wall_ms=wall_ms,
            may_be_empty=action.may_be_empty,
        )
        digest = None if proposal is None else self._application.compute_digest(proposal)
        self._post(
            ProposalBuilt(
                epoch=action.epoch, height=action.height, view=action.view, proposal=proposal, digest=digest
            )
        )

    async def _validate(self, action: Validate) -> None:
        validation = await self._application.validate(
            action.proposal, height=action.height, source=action.source, freshness=action.freshness
        )
        if validation.refusal is not None:
            self.counters.proposals_refused += 1
            self._on_refusal(action.source, f"proposal {action.digest.hex()}: {validation.refusal}")
        self._post(
            ProposalValidated(
                epoch=action.epoch,
                height=action.height,
                view=action.view,
                digest=action.digest,
                ok=validation.ok,
                has_diverged=validation.has_diverged,
            )
        )

    async def _commit(self, action: CommitBlock) -> None:
        replica_set = await self._application.commit(action.proposal, action.certificate)
        self._post(
            BlockDurable(
                height=Height(action.certificate.height), digest=action.digest, replica_set=replica_set
            )
        )


def _is_voting(status: ReplicaStatus) -> bool:
    return not (status.is_starting or status.is_silent)

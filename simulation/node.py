"""One simulated node: carries a replica's effects out in the daemon's order, on virtual disk and network.

Invariant, as in `consensus.driver`: everything to persist is synced before anything is sent, and everything
is sent before anything is applied. A crash may come at every one of these points. What a crash forgets is all
but the `Disk`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import assert_never

from consensus.effects import (
    NOTHING,
    Action,
    Build,
    CommitBlock,
    Discard,
    ForwardOldest,
    Halt,
    ReportEvidence,
    ReportRefusal,
    RequestSync,
    Send,
    TruncateJournal,
    Validate,
)
from consensus.events import Event, MessageReceived, PeerConnected, PendingChanged, Tick
from consensus.journal_records import JournalRecord
from consensus.messages import encode_message
from consensus.replica_set import ReplicaId
from crypto.encoding import EncodingError
from simulation.coverage import Coverage
from simulation.disk import Disk, StoredBlock
from simulation.frames import (
    BlocksRequest,
    BlocksResponse,
    BodiesRequest,
    BodiesResponse,
    ConsensusFrame,
    Frame,
    TransactionsFrame,
    decode_shared,
)
from simulation.ledger_work import LedgerWork
from simulation.light_ledger import SimulatedLedger
from simulation.node_parts import CrashPoint, Links, NodeParts, Observer, SimulatedReplica
from simulation.promises import gather_bodies
from simulation.schedule import Schedule
from simulation.trace import Trace

INBOX_MESSAGES_MAX = 2_000
BATCH_MESSAGES_MAX = 128
FAILED_US = 150_000
"""When a node that stopped for its disk is started again."""


class Node:
    """See the module's docstring."""

    ledger: SimulatedLedger
    replica: SimulatedReplica

    def __init__(
        self,
        parts: NodeParts,
        *,
        schedule: Schedule,
        network: Links,
        observer: Observer,
        trace: Trace,
        coverage: Coverage,
        random: Random,
    ) -> None:
        self.replica_id = parts.replica_id
        self.disk = parts.disk
        self.is_up = False
        self.is_halted = False
        self.crash_points: list[CrashPoint] = []
        self.counts: Counter[str] = Counter()
        """Injected faults by kind."""
        self.clock_jump_ms = 0
        """By how much its wall clock was set since the run began."""
        self._parts = parts
        self._schedule = schedule
        self._network = network
        self._observer = observer
        self._trace = trace
        self._coverage = coverage
        self._random = random
        self._paused_until_us = 0
        self._incarnation = 0
        network.attach(self.replica_id, self.on_frame)

    # Life and death

    def start(self) -> None:
        """The process starts with what the disk holds."""
        self._events: deque[Event] = deque()
        self._messages: deque[tuple[ReplicaId, bytes]] = deque()
        self._to_persist: list[JournalRecord] = []
        self._to_send: list[Send] = []
        self._to_apply: list[Action] = []
        self._is_busy = False
        self._oldest_told: bytes | None = None
        self._truncate_height: int | None = None
        self._started_us = self._schedule.now_us
        self._incarnation += 1
        if self.disk.drop_damaged():
            self.counts["ledger_given_up"] += 1
            self._note("a block is damaged: the ledger is fetched anew")
        self.ledger = self._parts.create_ledger(self.disk)
        self._observer.on_started(self.replica_id, self.disk, self.ledger.state_root)
        self.replica = self._parts.create_replica(self.replica_id, self.disk, self.ledger)
        self._work = LedgerWork(
            self,
            ledger=self.ledger,
            disk=self.disk,
            random=self._random,
            durations=self._parts.durations,
            verify_block=self._parts.verify_block,
        )
        self._watch = self._coverage.watch(self.replica_id)
        self.is_up = True
        self.later(self._random.randrange(self._parts.tick_us), self._tick)

    def crash(self, kind: str, down_us: int, harm: Callable[[Disk], None] | None = None) -> None:
        """The process dies at once; `harm` comes to its disk; it starts again after `down_us`."""
        if not self.is_up:
            return
        self._note(f"crash {kind}, down for {down_us // 1000} ms")
        self.counts[f"crash_{kind}"] += 1
        self.is_up = False
        self._incarnation += 1
        self.ledger.close()
        fate = self.disk.crash(self._random)
        if fate is not None:
            self.counts[fate] += 1
        if harm is not None:
            harm(self.disk)
        self._schedule.after(down_us, self.restart)

    def restart(self) -> None:
        """Start again unless it runs or must not."""
        if self.is_up or self.is_halted:
            return
        journal = "missing" if self.disk.journal_missing else f"of {len(self.disk.get_records())} records"
        self._note(f"start at height {self.disk.blocks[-1].height}, journal {journal}")
        self.start()
        for peer in self.peers:
            self.connect(peer)

    def pause(self, duration_us: int) -> None:
        """The process gets no time: what arrives waits, nothing is answered."""
        self.counts["pause"] += 1
        self._note(f"pause for {duration_us // 1000} ms")
        self._paused_until_us = self._schedule.now_us + duration_us
        self._schedule.after(duration_us, self._turn)

    def jump_clock(self, by_ms: int) -> None:
        """Its wall clock is set forward or back; what it measures durations with goes on."""
        self.clock_jump_ms += by_ms
        self._note(f"clock jumps by {by_ms} ms")

    def connect(self, replica: ReplicaId) -> None:
        """A link to `replica` is up again."""
        if self.is_up:
            self.post(PeerConnected(replica=replica))

    def meets_crash(self, where: str) -> bool:
        """Whether a crash waited here; the node is then down."""
        for index, point in enumerate(self.crash_points):
            if point.where == where and self.is_up:
                if point.countdown == 0:
                    del self.crash_points[index]
                    self.crash(where, point.down_us)
                    return True
                self.crash_points[index] = replace(point, countdown=point.countdown - 1)
        return False

    def meets_disk_failure(self) -> bool:
        """Whether nothing can be written; the node has then stopped, to try again later (rule P7)."""
        if self.disk.failure is None:
            return False
        self.crash(self.disk.failure, FAILED_US)
        return True

    # What comes in

    def on_frame(self, sender: ReplicaId, frame: Frame) -> None:
        """Something arrives over a link."""
        if not self.is_up:
            return
        match frame:
            case ConsensusFrame():
                if len(self._messages) < INBOX_MESSAGES_MAX:
                    self._messages.append((sender, frame.data))
                    self._turn()
                else:
                    self.counts["inbox_full"] += 1
            case TransactionsFrame():
                for body in frame.bodies:
                    self.ledger.add_transaction(body)
                self._turn()
            case BodiesRequest():
                bodies = [self.ledger.get_body(item) for item in frame.hashes]
                self.send_frame(sender, BodiesResponse(tuple(body for body in bodies if body is not None)))
            case BodiesResponse():
                self._work.on_bodies(frame)
            case BlocksRequest():
                self._work.on_blocks_request(sender, frame)
            case BlocksResponse():
                self._work.on_blocks(frame)
            case _:
                assert_never(frame)

    def submit(self, body: bytes) -> bool:
        """A client's transaction, perhaps not for the first time; whether it is final here."""
        if not self.is_up or self._is_paused:
            return False
        if self.ledger.is_committed(self.ledger.compute_hash(body)):
            return True
        if self.ledger.add_transaction(body):
            self._network.broadcast(self.replica_id, TransactionsFrame((body,)))
            self._turn()
        return False

    def post(self, event: Event) -> None:
        """Tell the replica; it steps at once unless it is busy."""
        self._events.append(event)
        self._turn()

    def _tick(self) -> None:
        self.later(self._parts.tick_us, self._tick)
        if not self._is_paused and not self._is_busy:
            monotonic_ms = (self._schedule.now_us - self._started_us) // 1000
            self._events.appendleft(Tick(monotonic_ms=monotonic_ms, wall_ms=self.read_clock()))
            self._turn()

    # One turn: step, persist, send, apply

    def _turn(self) -> None:
        """Handle what waits, unless a sync is under way or the process is paused."""
        if self._is_busy or not self.is_up or self._schedule.now_us < self._paused_until_us:
            return
        oldest = self.ledger.oldest
        if oldest != self._oldest_told:
            self._oldest_told = oldest
            self._step(PendingChanged(oldest=oldest))
        events, messages = self._events, self._messages
        while events:
            self._step(events.popleft())
        left = BATCH_MESSAGES_MAX
        while messages and left:
            self._step_message(*messages.popleft())
            left -= 1
        self._carry_out()
        if messages:
            self._turn()

    def _step_message(self, sender: ReplicaId, data: bytes) -> None:
        try:
            message = decode_shared(data)
        except EncodingError as error:
            self._observer.on_refused(self.replica_id, sender, str(error))
        else:
            self._step(MessageReceived(sender=sender, message=message))

    def _step(self, event: Event) -> None:
        """Gather what the replica wants done for one event."""
        effects = self.replica.step(event)
        self._trace.add_step(self._schedule.now_us, self.replica_id, event, effects)
        self._watch.add_step(event, effects)
        if effects is not NOTHING:
            self._to_persist += effects.persist
            self._to_send += effects.send
            self._to_apply += effects.apply

    def _carry_out(self) -> None:
        """Do what this turn's steps want done: persist, then send, then apply."""
        if self._to_persist:
            self._persist()
            return
        if self.disk.journal_missing:
            status = self.replica.status
            self.disk.journal_missing = status.is_starting or status.is_silent
        if self._to_send or self._to_apply:
            self._release()

    def _persist(self) -> None:
        records, self._to_persist = self._to_persist, []
        self.disk.append(records, gather_bodies(self.replica_id, records, self.ledger.get_body))
        self._is_busy = True
        if not self.meets_crash("before_sync"):
            self.later(self._random.randrange(self._parts.durations.sync_us_max), self._on_synced)

    def _on_synced(self) -> None:
        if self.meets_disk_failure():
            return
        self.disk.sync()
        if self._truncate_height is not None:
            self.disk.truncate(self._truncate_height)
            self._truncate_height = None
        if not self.meets_crash("after_sync"):
            self._release()
            self._is_busy = False
            self._turn()

    def _release(self) -> None:
        """Send, then apply. Whatever is applied may lead to further turns at once."""
        send, self._to_send = self._to_send, []
        apply, self._to_apply = self._to_apply, []
        for item in send:
            self.send(item)
            if self.crash_points and self.meets_crash("while_sending"):
                return
        for action in apply:
            self._apply(action)

    def _apply(self, action: Action) -> None:
        match action:
            case Build():
                self._work.build(action)
            case Validate():
                self._work.validate(action)
            case CommitBlock():
                self._work.commit(action)
            case Discard():
                self._work.discard(action.digest)
            case RequestSync():
                self._work.request_sync(action.source)
            case ForwardOldest():
                oldest = self.ledger.oldest
                body = None if oldest is None else self.ledger.get_body(oldest)
                if body is not None and action.primary in self.peers:
                    self.send_frame(action.primary, TransactionsFrame((body,)))
            case TruncateJournal():
                self.ledger.forget_through(action.height)
                # A real journal is rewritten now and then only; what is stale in it must do no harm.
                if self._random.random() < 0.7:
                    self._truncate_height = action.height
            case ReportEvidence():
                self._observer.on_accused(self.replica_id, action.first, action.second)
            case ReportRefusal():
                self._observer.on_refused(self.replica_id, action.sender, action.reason)
            case Halt():
                self.is_halted, self.is_up = True, False
                self._incarnation += 1
                self._observer.on_halted(self.replica_id, action.reason)
            case _:
                assert_never(action)

    # Services

    @property
    def peers(self) -> tuple[ReplicaId, ...]:
        return tuple(item for item in self._network.replicas if item != self.replica_id)

    @property
    def _is_paused(self) -> bool:
        return self._schedule.now_us < self._paused_until_us

    def send(self, item: Send) -> None:
        """One message leaves; the checkers see it first."""
        self._observer.on_sent(self.replica_id, item.message, self.disk)
        frame = ConsensusFrame(encode_message(item.message))
        if item.to is None:
            self._network.broadcast(self.replica_id, frame)
        else:
            self.send_frame(item.to, frame)

    def send_frame(self, receiver: ReplicaId, frame: Frame) -> None:
        self._network.send(self.replica_id, receiver, frame)

    def later(self, delay_us: int, callback: Callable[[], None]) -> None:
        """Call back after `delay_us` unless the process has died by then."""
        self._schedule.after(delay_us, self._call, self._incarnation, callback)

    def _call(self, incarnation: int, callback: Callable[[], None]) -> None:
        if self.is_up and self._incarnation == incarnation:
            callback()

    def read_clock(self) -> int:
        return self._parts.wall_ms + self.clock_jump_ms + self._schedule.now_us // 1000

    def on_block(self, block: StoredBlock, state_root: bytes) -> None:
        self._observer.on_committed(self.replica_id, block, state_root)

    def _note(self, text: str) -> None:
        self._trace.add_note(self._schedule.now_us, f"node {self.replica_id}", text)

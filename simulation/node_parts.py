"""What a simulated node is made of, and whom it tells what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from consensus.effects import Effects
from consensus.events import Event
from consensus.messages import Message, Vote
from consensus.replica_set import ReplicaId, ReplicaSet
from consensus.replica_status import ReplicaStatus
from simulation.disk import Disk, StoredBlock
from simulation.frames import Frame, SyncedBlock
from simulation.ledger_work import Durations
from simulation.light_ledger import SimulatedLedger


class SimulatedReplica(Protocol):
    """The replica as the simulator sees it."""

    def step(self, event: Event) -> Effects: ...

    @property
    def status(self) -> ReplicaStatus: ...


class Links(Protocol):
    """The network as one node sees it."""

    @property
    def replicas(self) -> tuple[ReplicaId, ...]: ...

    def attach(self, replica: ReplicaId, receive: Callable[[ReplicaId, Frame], None]) -> None: ...

    def send(self, sender: ReplicaId, receiver: ReplicaId, frame: Frame) -> None: ...

    def broadcast(self, sender: ReplicaId, frame: Frame) -> None: ...


class Observer(Protocol):
    """The checkers, as nodes tell them what happens; each may raise InvariantBroken."""

    def on_sent(self, replica: ReplicaId, message: Message, disk: Disk) -> None: ...

    def on_committed(self, replica: ReplicaId, block: StoredBlock, state_root: bytes) -> None: ...

    def on_started(self, replica: ReplicaId, disk: Disk, state_root: bytes) -> None: ...

    def on_halted(self, replica: ReplicaId, reason: str) -> None: ...

    def on_accused(self, reporter: ReplicaId, first: Vote, second: Vote) -> None: ...

    def on_refused(self, reporter: ReplicaId, sender: ReplicaId, reason: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """A crash that waits for the node to reach a certain place in its work."""

    where: str
    """`before_sync`, `after_sync`, `while_sending` or `while_committing`."""
    countdown: int
    """How many times that place is passed unharmed first."""
    down_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What a node is made of; the factories are called at every start."""

    replica_id: ReplicaId
    disk: Disk
    create_ledger: Callable[[Disk], SimulatedLedger]
    create_replica: Callable[[ReplicaId, Disk, SimulatedLedger], SimulatedReplica]
    verify_block: Callable[[SyncedBlock, bytes, ReplicaSet], None]
    wall_ms: int
    """What its clock shows when the run begins."""
    tick_us: int
    durations: Durations

"""A network that loses, repeats, delays, reorders and parts; it never alters what it carries.

(The daemon's links are TLS: bytes that arrive are those that were sent, by whom they say.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from consensus.certificates import Certificate
from consensus.replica_set import ReplicaId
from simulation.schedule import Schedule


@dataclass(frozen=True, slots=True)
class ConsensusFrame:
    """One encoded message of the protocol."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TransactionsFrame:
    """Transactions on their way from the node that took them in, or forwarded to a primary."""

    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BodiesRequest:
    """Which transactions of a proposal the sender misses."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BodiesResponse:
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BlocksRequest:
    """Blocks from this height on, please."""

    height_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedBlock:
    """A final block as it travels to a node that is behind."""

    header: bytes
    hashes: tuple[bytes, ...]
    bodies: tuple[bytes, ...]
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class BlocksResponse:
    height_from: int
    """Of the first block."""
    blocks: tuple[SyncedBlock, ...]


Frame: TypeAlias = (
    ConsensusFrame | TransactionsFrame | BodiesRequest | BodiesResponse | BlocksRequest | BlocksResponse
)
Receive = Callable[[ReplicaId, Frame], None]
"""Takes a frame at its destination; who sent it comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """How all links behave; chances are from 0 to 1."""

    delay_us: int
    """What every frame takes at least."""
    delay_us_spread: int
    """The mean of what it takes more, exponentially distributed: the cause of reordering."""
    loss: float = 0.0
    duplication: float = 0.0


class Network:
    """Carries frames between nodes. Links may be cut in one direction only."""

    def __init__(self, schedule: Schedule, random: Random, quality: LinkQuality) -> None:
        self.quality = quality
        self.counts: Counter[str] = Counter()
        """Injected faults by kind."""
        self._schedule = schedule
        self._random = random
        self._receivers: dict[ReplicaId, Receive] = {}
        self._cuts: Counter[tuple[ReplicaId, ReplicaId]] = Counter()

    def attach(self, replica: ReplicaId, receive: Receive) -> None:
        self._receivers[replica] = receive

    @property
    def replicas(self) -> tuple[ReplicaId, ...]:
        return tuple(self._receivers)

    def send(self, sender: ReplicaId, receiver: ReplicaId, frame: Frame) -> None:
        """Deliver `frame` some time, once, more than once or never."""
        if self._cuts[sender, receiver]:
            self.counts["cut"] += 1
            return
        quality, random = self.quality, self._random
        if quality.loss and random.random() < quality.loss:
            self.counts["loss"] += 1
            return
        self._deliver_later(sender, receiver, frame)
        if quality.duplication and random.random() < quality.duplication:
            self.counts["duplication"] += 1
            self._deliver_later(sender, receiver, frame)

    def broadcast(self, sender: ReplicaId, frame: Frame) -> None:
        for receiver in self._receivers:
            if receiver != sender:
                self.send(sender, receiver, frame)

    def cut(self, links: Iterable[tuple[ReplicaId, ReplicaId]]) -> None:
        """Cut these directed links; cuts add up, each must be mended."""
        for link in links:
            self._cuts[link] += 1

    def mend(self, links: Iterable[tuple[ReplicaId, ReplicaId]]) -> None:
        for link in links:
            self._cuts[link] = max(0, self._cuts[link] - 1)

    def mend_all(self) -> None:
        self._cuts.clear()

    def _deliver_later(self, sender: ReplicaId, receiver: ReplicaId, frame: Frame) -> None:
        spread = self.quality.delay_us_spread
        delay_us = self.quality.delay_us + (int(self._random.expovariate(1 / spread)) if spread else 0)
        receive = self._receivers[receiver]
        self._schedule.after(delay_us, lambda: receive(sender, frame))

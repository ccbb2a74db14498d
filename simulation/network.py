"""A network that loses, repeats, delays, reorders, queues and parts; it never alters what it carries.

(The daemon's links are TLS: bytes that arrive are those that were sent, by whom they say.)

A link may be narrow: its frames leave one after the other at so many bytes a second, so that a big one keeps
those behind it waiting, and what would wait for too long is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log
from random import Random
from typing import Final, TypeAlias

from consensus.messages import Message
from consensus.replica_set import ReplicaId
from crypto.encoding import EncodingError
from simulation.frames import ConsensusFrame, Frame, compute_frame_bytes, decode_shared
from simulation.profiles import Placement
from simulation.schedule import Schedule

QUEUE_US_MAX: Final = 1_000_000
"""A frame that would wait longer before a narrow link is dropped."""
HELD_BACK_US: Final = 150_000
"""How long a frame is held back at most for others to overtake it."""

Link: TypeAlias = tuple[ReplicaId, ReplicaId]
"""Sender and receiver; each direction is a link of its own."""


Receive = Callable[[ReplicaId, Frame], None]
"""Takes a frame at its destination; who sent it comes first."""
Intercept = Callable[[ReplicaId, ReplicaId, Message], bool]
"""Whether this message, from the first to the second, is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """How all links behave, whatever their length; chances are from 0 to 1."""

    slowness: int = 1
    """How many times longer than usual the part of a delay is that differs from frame to frame."""
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """The chance of a frame to be held back while later ones pass."""


class Network:
    """Carries frames between nodes. Links may be cut in one direction only."""

    def __init__(self, schedule: Schedule, random: Random, placement: Placement) -> None:
        self.placement = placement
        self.quality = LinkQuality()
        self.counts: Counter[str] = Counter()
        """Injected faults by kind."""
        self._schedule = schedule
        self._random = random
        self._receivers: dict[ReplicaId, Receive] = {}
        self._cuts: Counter[Link] = Counter()
        self._delays_us: dict[Link, tuple[int, float]] = {}
        """The least delay of a link, and how much more it usually is."""
        self._bytes_per_second: dict[Link, int] = {}
        self._free_us: dict[Link, int] = {}
        self._intercepts: list[Intercept] = []

    def attach(self, replica: ReplicaId, receive: Receive) -> None:
        """Frames for `replica` go to `receive`."""
        for other in (*self._receivers, replica):
            for link in ((other, replica), (replica, other)):
                delay_us = self.placement.compute_delay_us(*link)
                self._delays_us[link] = delay_us, delay_us * self.placement.profile.spread
        self._receivers[replica] = receive

    @property
    def replicas(self) -> tuple[ReplicaId, ...]:
        return tuple(self._receivers)

    def send(self, sender: ReplicaId, receiver: ReplicaId, frame: Frame) -> None:
        """Deliver `frame` some time, once, more than once or never."""
        link = (sender, receiver)
        if self._cuts.get(link):
            self.counts["cut"] += 1
            return
        if self._intercepts and self._is_intercepted(sender, receiver, frame):
            self.counts["intercepted"] += 1
            return
        quality, random = self.quality, self._random
        if quality.loss and random.random() < quality.loss:
            self.counts["loss"] += 1
            return
        self._deliver_later(link, frame)
        if quality.duplication and random.random() < quality.duplication:
            self.counts["duplication"] += 1
            self._deliver_later(link, frame)

    def broadcast(self, sender: ReplicaId, frame: Frame) -> None:
        for receiver in self._receivers:
            if receiver != sender:
                self.send(sender, receiver, frame)

    def cut(self, links: Iterable[Link]) -> None:
        """Cut these directed links; cuts add up, each must be mended."""
        for link in links:
            self._cuts[link] += 1

    def mend(self, links: Iterable[Link]) -> None:
        for link in links:
            self._cuts[link] = max(0, self._cuts[link] - 1)

    def narrow(self, links: Iterable[Link], bytes_per_second: int) -> None:
        """Let no more than `bytes_per_second` through each of these links, until `mend_all`."""
        for link in links:
            self._bytes_per_second[link] = bytes_per_second

    def intercept(self, intercept: Intercept) -> None:
        """Lose just what `intercept` says, until it is released or `mend_all`."""
        self._intercepts.append(intercept)

    def release(self, intercept: Intercept) -> None:
        if intercept in self._intercepts:
            self._intercepts.remove(intercept)

    def mend_all(self) -> None:
        """All links are whole and wide."""
        self._intercepts.clear()
        self._cuts.clear()
        self._bytes_per_second.clear()
        self._free_us.clear()

    def _deliver_later(self, link: Link, frame: Frame) -> None:
        quality, random = self.quality, self._random
        delay_us, more_us = self._delays_us[link]
        # The logarithm of a uniform number: an exponential distribution.
        delay_us += int(-log(1.0 - random.random()) * (more_us * quality.slowness))
        if quality.reordering and random.random() < quality.reordering:
            self.counts["reordering"] += 1
            delay_us += random.randrange(HELD_BACK_US)
        if link in self._bytes_per_second:
            wait_us = self._queue(link, compute_frame_bytes(frame))
            if wait_us is None:
                return
            delay_us += wait_us
        sender, receiver = link
        self._schedule.after(delay_us, self._receivers[receiver], sender, frame)

    def _is_intercepted(self, sender: ReplicaId, receiver: ReplicaId, frame: Frame) -> bool:
        if not isinstance(frame, ConsensusFrame):
            return False
        try:
            message = decode_shared(frame.data)
        except EncodingError:
            return False
        return any(intercept(sender, receiver, message) for intercept in self._intercepts)

    def _queue(self, link: Link, size: int) -> int | None:
        """When a frame of `size` bytes will have left over a narrow link, in microseconds from now.

        None when it is dropped, since too much waits before it.
        """
        now_us = self._schedule.now_us
        start_us = max(now_us, self._free_us.get(link, 0))
        if start_us - now_us > QUEUE_US_MAX:
            self.counts["queue_full"] += 1
            return None
        if start_us > now_us:
            self.counts["queued"] += 1
        self._free_us[link] = start_us + size * 1_000_000 // self._bytes_per_second[link]
        return self._free_us[link] - now_us

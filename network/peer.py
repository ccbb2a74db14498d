"""One other node as this one sees it: queue, open requests, the link while there is one, standing.

A peer that sends what no honest node sends is counted against; soon it is cut off, and stays away longer each
time. Its standing outlives its links.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from consensus.replica_set import ReplicaId
from network.peer_queue import PeerQueue
from network.requests import OpenRequests, Request, RequestKind
from network.settings import LinkSettings
from network.turns import Turn

_SECOND_US: Final = 1_000_000


class Socket(Protocol):
    """The part of aiohttp's two WebSocket classes that a link needs."""

    async def send_bytes(self, data: bytes) -> None: ...

    async def close(self, *, code: int = 1000, message: bytes = b"") -> object: ...


@dataclass(slots=True)
class PeerCounters:
    """What happened with a peer since the node's start; for metrics."""

    links_opened: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    penalties: int = 0
    """Things sent that no honest node sends."""
    cuts: int = 0
    """Times the peer was cut off for it."""
    requests_dropped: int = 0
    """Requests of the peer that came while enough of them were waiting."""
    copies: int = 0
    """Times the peer was seen to run twice: a session returned after another had taken its place."""
    unsent: int = 0
    """Consensus messages for the peer while there was no link, or while this node is mute."""


@dataclass(slots=True)
class Asked:
    """What a peer has asked for, of one kind."""

    requests: deque[Request] = field(default_factory=deque)
    """That wait for an answer."""
    turn: Turn = field(default_factory=Turn)


@dataclass(slots=True, eq=False)
class Peer:
    """State of one peer; all methods on the event loop."""

    replica: ReplicaId
    settings: LinkSettings
    clock_ms: Callable[[], int]
    queue: PeerQueue = field(init=False)
    requests: OpenRequests = field(init=False)
    counters: PeerCounters = field(default_factory=PeerCounters)
    socket: Socket | None = None
    greetings: int = 0
    """That came on the link of now."""
    asked: dict[RequestKind, Asked] = field(default_factory=lambda: {kind: Asked() for kind in RequestKind})
    has_frames: asyncio.Event = field(default_factory=asyncio.Event)
    _penalties: int = 0
    _penalties_since_ms: int = 0
    _banned_until_ms: int = 0
    _bans: int = 0
    _charged_until_us: int = 0

    def __post_init__(self) -> None:
        self.queue = PeerQueue(self.settings)
        self.requests = OpenRequests(self.settings.requests_max)

    @property
    def is_connected(self) -> bool:
        return self.socket is not None

    def get_ban_left_ms(self) -> int:
        """How long the peer must stay away, 0 when it is welcome."""
        return max(0, self._banned_until_ms - self.clock_ms())

    def has_room_to_ask(self, request: Request) -> bool:
        """Whether one more request of the peer may wait here."""
        waiting = [request, *(waits for asked in self.asked.values() for waits in asked.requests)]
        size_bytes = sum(len(waits.payload) for waits in waiting)
        return len(waiting) <= self.settings.requests_max and size_bytes <= self.settings.requests_bytes_max

    def attach(self, socket: Socket) -> Socket | None:
        """The peer has a link (again); the one that it replaces, if any, is the caller's to close."""
        previous, self.socket = self.socket, socket
        self.greetings = 0
        self._forget_waiting("the link was replaced")
        self.counters.links_opened += 1
        return previous

    def detach(self, socket: Socket) -> bool:
        """The link ended. False when another has replaced it already."""
        if self.socket is not socket:
            return False
        self.socket = None
        self._forget_waiting("the link ended")
        return True

    def charge(self, messages: int) -> int:
        """Count what was read from the peer; for how many milliseconds nothing more is to be read.

        A flood then costs no more than reading so many messages, and its sender's socket fills up (rule D1).
        """
        now_us = 1_000 * self.clock_ms()
        cost_us = messages * _SECOND_US // self.settings.messages_per_second_max
        self._charged_until_us = max(self._charged_until_us, now_us - _SECOND_US) + cost_us
        return max(0, self._charged_until_us - now_us) // 1_000

    def add_penalty(self) -> bool:
        """Count one thing against the peer; True when it is to be cut off now."""
        now = self.clock_ms()
        if now - self._penalties_since_ms > self.settings.penalty_interval_ms:
            self._penalties, self._penalties_since_ms = 0, now
        self._penalties += 1
        self.counters.penalties += 1
        return self._penalties >= self.settings.penalties_max

    def ban(self) -> None:
        """Keep the peer away for a while, longer each time until it has behaved for a long time.

        What it had asked for is not answered any more; and what it did before it was banned counts once.
        """
        self._forget_asked()
        if self.get_ban_left_ms():
            return
        now, settings = self.clock_ms(), self.settings
        if now - self._banned_until_ms > settings.ban_ms_max:
            self._bans = 0
        self._banned_until_ms = now + min(settings.ban_ms << min(self._bans, 20), settings.ban_ms_max)
        self._bans += 1
        self._penalties = 0
        self.counters.cuts += 1

    def _forget_waiting(self, reason: str) -> None:
        self._forget_asked()
        self.queue.clear()
        self.requests.fail_all(f"replica {self.replica}: {reason}")

    def _forget_asked(self) -> None:
        for asked in self.asked.values():
            asked.requests.clear()

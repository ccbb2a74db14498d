"""Answering the peers' requests, within a share of the node's time that all peers have together.

A request waits with its peer until its turn has come, and an answer is made only while there is room for it
on the way out. Each kind of request has its part of the share, and within it each peer; whoever has had least
is next. So bodies, without which a replica cannot vote, wait for one answer at most of each other kind,
however many fetch blocks and snapshots; whoever asks without end waits for itself; and one that seldom asks
waits for the answer that is being paid for, and for one of each peer that asks the same and has got none for
even longer. An honest node that catches up asks for less than its part, since it must execute what it is
given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from network.link_ports import RequestHandler
from network.peer import Peer
from network.requests import Answer, BadRequest, Request, RequestKind, encode_answer
from network.settings import LinkSettings
from network.turns import Turn, Turns

REQUEST_US: Final = 50
"""What receiving a request and sending a small answer cost, besides making it."""
SENT_BYTES_PER_US: Final = 1_000
"""How fast an answer is copied, encrypted and written."""
BURST_US: Final = 1_000_000
"""For how long a share that was not used is kept."""

_log = structlog.get_logger("network.links")


class _Line:
    """The requests of one kind, of all peers."""

    def __init__(self, kind: RequestKind) -> None:
        self._kind = kind
        self._turns = Turns()
        self.waiting: set[Peer] = set()
        self.turn = Turn()
        """Of this kind among all."""

    def put(self, peer: Peer, request: Request) -> None:
        asked = peer.asked[self._kind]
        if not asked.requests:
            self._turns.pass_over(asked.turn)
        asked.requests.append(request)
        self.waiting.add(peer)

    def find_next(self) -> Peer | None:
        """Who is to be answered; None when nobody can be."""
        self.waiting = {peer for peer in self.waiting if peer.asked[self._kind].requests}
        ready = []
        for peer in self.waiting:
            if peer.queue.has_room_for_answer:
                ready.append(peer)
            else:
                self._turns.pass_over(peer.asked[self._kind].turn)
        return min(ready, key=lambda peer: (peer.asked[self._kind].turn.rank, peer.replica), default=None)

    def charge(self, peer: Peer, cost_us: int, now_us: int) -> None:
        self._turns.charge(peer.asked[self._kind].turn, cost_us, now_us)


class Serving:
    """The requests of all peers; all methods on the event loop."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        on_bad_request: Callable[[Peer, str], None],
        on_defect: Callable[[Peer], None],
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1_000,
    ) -> None:
        """`on_bad_request` is told what no honest node asks; `on_defect` whose request a handler broke on."""
        self._settings = settings
        self._on_bad_request = on_bad_request
        self._on_defect = on_defect
        self._clock_us = clock_us
        self._lines = {kind: _Line(kind) for kind in RequestKind}
        self._turns = Turns()
        self._has_work = asyncio.Event()
        self._paid_until_us = 0
        self.handlers: dict[RequestKind, RequestHandler] = {}

    def put(self, peer: Peer, request: Request) -> bool:
        """False when too many of the peer's requests wait already: it is dropped."""
        if not peer.has_room_to_ask(request):
            peer.counters.requests_dropped += 1
            return False
        self._lines[request.kind].put(peer, request)
        self._has_work.set()
        return True

    def wake(self) -> None:
        """An answer has left: there may be room for the next one."""
        if any(line.waiting for line in self._lines.values()):
            self._has_work.set()

    async def run(self) -> None:
        """Until cancelled: one answer after the other, everything else in between."""
        while True:
            if pause_us := max(0, self._paid_until_us - self._clock_us()):
                await asyncio.sleep(pause_us / 1_000_000)
                continue
            if not self.serve_next():
                self._has_work.clear()
                await self._has_work.wait()
            await asyncio.sleep(0)

    def serve_next(self) -> bool:
        """Answer the request whose turn it is; False when none can be answered now."""
        ready: dict[RequestKind, Peer] = {}
        for kind, line in self._lines.items():
            peer = line.find_next()
            if peer is None:
                self._turns.pass_over(line.turn)
            else:
                ready[kind] = peer
        if not ready:
            return False
        kind = min(ready, key=lambda kind: self._lines[kind].turn.rank)
        line, peer = self._lines[kind], ready[kind]
        began_us = self._clock_us()
        size_bytes = self._answer(peer, peer.asked[kind].requests.popleft())
        now_us = self._clock_us()
        cost_us = REQUEST_US + now_us - began_us + size_bytes // SENT_BYTES_PER_US
        self._turns.charge(line.turn, cost_us, now_us)
        line.charge(peer, cost_us, now_us)
        price_us = 100 * cost_us // self._settings.serving_percent_max
        self._paid_until_us = max(self._paid_until_us, now_us - BURST_US) + price_us
        return True

    def _answer(self, peer: Peer, request: Request) -> int:
        """How many bytes the answer has."""
        handler = self.handlers.get(request.kind)
        try:
            payload = None if handler is None else handler(peer.replica, request.payload)
        except BadRequest as error:
            self._on_bad_request(peer, str(error))
            return 0
        except Exception:
            _log.exception("request ended by a defect", replica=peer.replica, kind=request.kind.name)
            self._on_defect(peer)
            return 0
        answer = encode_answer(Answer(request.number, payload))
        peer.queue.put_answer(answer)
        peer.has_frames.set()
        return len(answer)

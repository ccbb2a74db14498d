"""Answering the peers' requests, within a share of the node's time that all peers have together.

A request waits with its peer until its turn has come, and an answer is made only while there is room for it
on the way out. Whoever has had least is served next; so one that asks without end waits for itself, and one
that seldom asks waits for no more than the answer that is being paid for. An honest node that catches up asks
for less than its share, since it must execute what it is given.
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

REQUEST_US: Final = 50
"""What receiving a request and sending a small answer cost, besides making it."""
SENT_BYTES_PER_US: Final = 1_000
"""How fast an answer is copied, encrypted and written."""
BURST_US: Final = 1_000_000
"""For how long a share that was not used is kept."""

_log = structlog.get_logger("network.links")


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
        self._waiting: set[Peer] = set()
        self._has_work = asyncio.Event()
        self._paid_until_us = 0
        self._served_us = 0
        self.handlers: dict[RequestKind, RequestHandler] = {}

    def put(self, peer: Peer, request: Request) -> bool:
        """False when too many of the peer's requests wait already: it is dropped."""
        if len(peer.asked) >= self._settings.requests_max:
            peer.counters.requests_dropped += 1
            return False
        if not peer.asked:
            # Time in which it did not ask is no credit, or it could ask for all of it at once.
            peer.served_us = max(peer.served_us, self._served_us)
        peer.asked.append(request)
        self._waiting.add(peer)
        self._has_work.set()
        return True

    def wake(self) -> None:
        """An answer has left: there may be room for the next one."""
        if self._waiting:
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
        self._waiting = {peer for peer in self._waiting if peer.asked}
        ready = []
        for peer in self._waiting:
            if peer.queue.has_room_for_answer:
                ready.append(peer)
            else:
                # Neither is time in which it did not read its answers.
                peer.served_us = max(peer.served_us, self._served_us)
        if not ready:
            return False
        peer = min(ready, key=lambda peer: (peer.served_us, peer.replica))
        self._served_us = peer.served_us
        began_us = self._clock_us()
        size_bytes = self._answer(peer, peer.asked.popleft())
        now_us = self._clock_us()
        cost_us = REQUEST_US + now_us - began_us + size_bytes // SENT_BYTES_PER_US
        peer.served_us += cost_us
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

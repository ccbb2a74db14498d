"""The event stream: server-sent events, scoped by role, resumable by height.

An event's `id` is its block's height and stands on the last event of the block only, so a reader that resumes
sees a block that was cut off again from its beginning: at least once, never lost. A reader that is too slow
is cut off rather than kept waiting for; it resumes when it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from client import models
from gateway.accounts import Account
from gateway.authentication import Authenticator, Session, get_session
from gateway.bodies import check_query
from gateway.errors import BadRequest, Gone, NotLoggedIn, TooMany
from gateway.operations import EVERYBODY, Operation
from gateway.settings import GatewaySettings
from gateway.transactions import build_event_answers
from gateway.visibility import Visibility, decode_fields
from ledger.chain import Chain
from ledger.receipt import Receipt
from ledger.speculation import CommittedBlock

BLOCKS_PER_TURN: Final = 32
"""Replayed blocks between two turns of the event loop."""

Block = tuple[int, tuple[Receipt, ...]]
"""Height and receipts; None in a queue ends the stream."""


class Events:
    """Streams of committed events."""

    def __init__(
        self,
        *,
        chain: Chain,
        authenticator: Authenticator,
        visibility: Visibility,
        settings: GatewaySettings,
    ) -> None:
        self._chain = chain
        self._authenticator = authenticator
        self._visibility = visibility
        self._settings = settings
        self._queues: dict[asyncio.Queue[Block | None], int] = {}
        """Each reader's queue, and how many events wait in it."""
        self._unsubscribe = chain.subscribe(self._on_committed)

    @property
    def client_count(self) -> int:
        return len(self._queues)

    def close(self) -> None:
        """End every stream."""
        self._unsubscribe()
        for queue in self._queues:
            queue.put_nowait(None)

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="GET",
                path="/v1/events",
                handler=self.handle_stream,
                summary="Events as blocks commit (text/event-stream); Last-Event-ID resumes after a height.",
                roles=EVERYBODY,
                answer_type="text/event-stream",
            ),
        )

    async def handle_stream(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        session = get_session(request)
        after = self._read_start(request)
        if len(self._queues) >= self._settings.event_clients_max:
            raise TooMany(
                "too_many_streams",
                f"{self._settings.event_clients_max} streams found",
                "come back later",
                retry_after_seconds=30,
            )
        base = self._chain.archive.get_base()
        if after < base - 1:
            raise Gone(base)
        queue: asyncio.Queue[Block | None] = asyncio.Queue()
        # From here on nothing is missed: what commits while the past is replayed waits in the queue.
        self._queues[queue] = 0
        try:
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
            )
            await response.prepare(request)
            replay_until = self._chain.head.height
            for height in range(after + 1, replay_until + 1):
                if height % BLOCKS_PER_TURN == 0:
                    await asyncio.sleep(0)
                await self._write_block(
                    response, session.account, height, self._chain.archive.get_receipts(height)
                )
            await self._follow(request, response, session, queue, replay_until)
        except ConnectionResetError:
            # The reader left or hangs: usual; nothing more may wait for it.
            if request.transport is not None:
                request.transport.abort()
        finally:
            del self._queues[queue]
        return response

    async def _follow(
        self,
        request: web.Request,
        response: web.StreamResponse,
        session: Session,
        queue: asyncio.Queue[Block | None],
        replayed: int,
    ) -> None:
        """Write blocks as they come, until the reader leaves, is too slow, or is logged out."""
        while True:
            try:
                block = await asyncio.wait_for(queue.get(), self._settings.event_ping_ms / 1000)
            except TimeoutError:
                block = (0, ())
            if block is None:
                return
            try:
                current = self._authenticator.require(request, session.role)
            except NotLoggedIn:
                return
            height, receipts = block
            if height == 0:
                await self._write(response, b": still here\n\n")
            elif height > replayed:
                await self._write_block(response, current.account, height, receipts)
            if queue in self._queues:
                self._queues[queue] -= _count_events(receipts)

    async def _write_block(
        self, response: web.StreamResponse, account: Account, height: int, receipts: Sequence[Receipt]
    ) -> None:
        shown = [
            answer
            for receipt in receipts
            for answer, event in zip(build_event_answers(receipt), receipt.events, strict=True)
            if self._visibility.may_see_event(account, event, decode_fields(event))
        ]
        for number, answer in enumerate(shown):
            is_last = number == len(shown) - 1
            await self._write(response, _format(answer, height if is_last else None))

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Raises ConnectionResetError when the reader takes nothing for a whole ping's time."""
        try:
            await asyncio.wait_for(response.write(data), self._settings.event_ping_ms / 1000)
        except TimeoutError:
            raise ConnectionResetError("the reader takes nothing") from None

    def _on_committed(self, block: CommittedBlock) -> None:
        if not self._queues:
            return
        receipts = tuple(receipt for receipt in block.receipts if receipt.events)
        count = _count_events(receipts)
        if not count:
            return
        for queue, waiting in list(self._queues.items()):
            if waiting + count > self._settings.event_queue_max and waiting:
                queue.put_nowait(None)
                self._queues[queue] = -(2**31)
            elif waiting >= 0:
                self._queues[queue] = waiting + count
                queue.put_nowait((block.header.height, receipts))

    def _read_start(self, request: web.Request) -> int:
        """The height after which to begin: the head, unless the reader resumes. Raises BadRequest."""
        text = request.headers.get("Last-Event-ID")
        head = self._chain.head.height
        if text is None:
            return head
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise BadRequest("bad_parameter", "Last-Event-ID: a height expected", "leave it out")
        after = min(int(text), head)
        if head - after > self._settings.event_replay_blocks_max:
            raise BadRequest(
                "too_far_back",
                f"height {after} found, at most {self._settings.event_replay_blocks_max} blocks back allowed",
                "read the audit trail instead, then begin at the head",
            )
        return after


def _count_events(receipts: Sequence[Receipt]) -> int:
    return sum(len(receipt.events) for receipt in receipts)


def _format(answer: models.EventAnswer, height: int | None) -> bytes:
    mark = "" if height is None else f"id: {height}\n"
    return f"{mark}event: {answer.contract}.{answer.name}\ndata: {answer.model_dump_json()}\n\n".encode()

"""Reads that must not be older than what the client knows already: `min_height`.

A gateway answers from its own head, which may be behind another gateway's. A client that has a receipt of
height H there and asks here with `min_height=H` is answered by a head at H or above, or not at all.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.bodies import SHARED_PARAMETERS, get_query_integer
from gateway.errors import Handler, Unavailable
from gateway.operations import Operation
from gateway.receipts import ReceiptWaiter
from ledger.chain import Chain

MIN_HEIGHT: Final = "min_height"


class MinHeight:
    """Makes requests wait for the head that they ask for, at most `wait_ms_max`."""

    def __init__(self, *, chain: Chain, waiter: ReceiptWaiter, wait_ms_max: int) -> None:
        self._chain = chain
        self._waiter = waiter
        self._wait_ms_max = wait_ms_max

    def wrap(self, operation: Operation, handler: Handler) -> Handler:
        """The handler, behind the wait where the operation takes one."""
        if not operation.takes_min_height:
            return handler

        async def handle(request: web.Request) -> web.StreamResponse:
            await self._wait(request)
            return await handler(request)

        return handle

    async def _wait(self, request: web.Request) -> None:
        """Raises Unavailable `height_not_reached`; TooMany when too many requests wait already."""
        request[SHARED_PARAMETERS] = (MIN_HEIGHT,)
        wanted = get_query_integer(request, MIN_HEIGHT, largest=2**63 - 1)
        if wanted is None or await self._waiter.wait_for_height(wanted, self._wait_ms_max):
            return
        raise Unavailable(
            "height_not_reached",
            f"a head at height {wanted} asked for, height {self._chain.head.height} found",
            "ask again, or ask another gateway",
            retry_after_seconds=1,
        )

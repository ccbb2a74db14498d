"""Where clients are let in, or told to wait while the ledger here does not know the institution.

An institution that was admitted later begins its node with a ledger from before that, and may serve nobody
until it has caught up with its own admission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from contracts.registry import get_institution
from gateway.waiting import build_waiting_gateway
from ledger.chain import Chain
from ledger.speculation import CommittedBlock

Serve = Callable[[web.Application], Awaitable[web.AppRunner]]
"""Lets clients in to an application. Raises OSError."""

_log = structlog.get_logger("node")


class FrontDoor:
    """One gateway at a time. Made and used on the event loop."""

    def __init__(
        self,
        *,
        chain: Chain,
        institution: bytes,
        build: Callable[[], web.Application],
        serve: Serve,
        halt: Callable[[BaseException], None],
    ) -> None:
        """`build` makes the gateway once the institution is known; `halt` hears of later failures."""
        self._chain = chain
        self._institution = institution
        self._build = build
        self._serve = serve
        self._halt = halt
        self._runner: web.AppRunner | None = None
        self._turning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises what `build` and `serve` raise."""
        if self._is_known():
            self._runner = await self._serve(self._build())
            return
        _log.warning("clients have to wait", reason=self._describe())
        self._runner = await self._serve(build_waiting_gateway(self._describe))
        self._unsubscribe = self._chain.subscribe(self._on_block)

    async def close(self) -> None:
        if self._turning is not None:
            await asyncio.gather(self._turning, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    def _is_known(self) -> bool:
        return get_institution(self._chain.state, self._institution) is not None

    def _describe(self) -> str:
        return (
            f"the ledger here, at height {self._chain.head.height}, does not know this institution yet, "
            f"{self._institution.hex()}: catching up, or not admitted"
        )

    def _on_block(self, block: CommittedBlock) -> None:
        if self._is_known():
            self._unsubscribe()
            self._turning = asyncio.create_task(self._turn())

    async def _turn(self) -> None:
        """The gateway takes the place of the one that says to wait."""
        assert self._runner is not None, "no gateway was opened"
        waiting, self._runner = self._runner, None
        try:
            await waiting.cleanup()
            self._runner = await self._serve(self._build())
        except Exception as error:
            self._halt(error)
            return
        _log.info("clients are let in", height=self._chain.head.height)

"""Traffic that goes on while faults happen: a writer at each gateway, and what was acknowledged when."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ledger.transaction import SignedTransaction
from tests.end_to_end.clients import Clients, TransactionsExpired


@dataclass(slots=True)
class Traffic:
    """Small batches of anchors, one after the other, until `stop`; each is sent until it has ended."""

    clients: Clients
    batch_size: int = 5
    pause_seconds: float = 0.05
    timeout_seconds: float = 300.0
    """How long one batch may take, faults included."""
    acknowledged: list[SignedTransaction] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each batch was acknowledged, on the monotonic clock."""
    _is_stopped: bool = False
    _has_progress: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """No new batch; those on their way are still committed."""
        self._is_stopped = True

    async def run(self, urls: Sequence[str]) -> None:
        await asyncio.gather(*map(self._write, urls))

    async def wait_progress(self, batches: int = 3, timeout_seconds: float = 60.0) -> float:
        """Seconds until so many further batches were acknowledged. Raises TimeoutError."""
        begin, known = time.monotonic(), len(self.times)
        async with asyncio.timeout(timeout_seconds):
            while len(self.times) < known + batches:
                self._has_progress.clear()
                await self._has_progress.wait()
        return time.monotonic() - begin

    def compute_longest_gap(self, since: float) -> float:
        """Seconds without any acknowledgement, at worst."""
        times = [since, *(moment for moment in self.times if moment > since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    async def _write(self, url: str) -> None:
        while not self._is_stopped:
            batch = self.clients.sign(self.batch_size)
            try:
                await self.clients.commit(batch, url, timeout_seconds=self.timeout_seconds)
            except TransactionsExpired:
                self.acknowledged += [
                    item for item in batch if await self.clients.get_end(item, url) == "committed"
                ]
                continue
            self.times.append(time.monotonic())
            self.acknowledged += batch
            self._has_progress.set()
            await asyncio.sleep(self.pause_seconds)


@asynccontextmanager
async def run_traffic(clients: Clients, urls: Sequence[str] | None = None) -> AsyncIterator[Traffic]:
    """Open a folder and write into it at these gateways, at all of them unless told; ends when all is in."""
    traffic = Traffic(clients)
    traffic.acknowledged.append(await clients.open_folder())
    running = asyncio.create_task(traffic.run(urls or clients.urls))
    try:
        yield traffic
        traffic.stop()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

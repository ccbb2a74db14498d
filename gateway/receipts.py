"""Waiting for transactions' ends: one subscription to the chain, many waiters."""

from __future__ import annotations

import asyncio

from gateway.errors import TooMany
from ledger.chain import Chain
from ledger.receipt import Receipt
from ledger.speculation import CommittedBlock


class ReceiptWaiter:
    """Receipts as they are committed, for whoever waits; at most `waits_max` waiters."""

    def __init__(self, chain: Chain, *, waits_max: int) -> None:
        self._chain = chain
        self._waits_max = waits_max
        self._waiters: dict[bytes, list[asyncio.Future[Receipt]]] = {}
        self._height_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._count = 0
        self._unsubscribe = chain.subscribe(self._on_committed)

    def close(self) -> None:
        self._unsubscribe()

    async def wait(self, transaction_id: bytes, timeout_ms: int) -> Receipt | None:
        """The receipt, at once if it is there; None when it does not come in time.

        Raises TooMany `too_many_waits` when so many wait already.
        """
        receipt = self._chain.get_receipt(transaction_id)
        if receipt is not None or timeout_ms <= 0:
            return receipt
        self._check_room()
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(transaction_id, [])
        waiters.append(future)
        self._count += 1
        try:
            return await asyncio.wait_for(future, timeout_ms / 1000)
        except TimeoutError:
            # A block may have been committed since the time was up: its end must not go without its receipt.
            return self._chain.get_receipt(transaction_id)
        finally:
            self._count -= 1
            waiters.remove(future)
            if not waiters and self._waiters.get(transaction_id) is waiters:
                del self._waiters[transaction_id]

    async def wait_for_height(self, height: int, timeout_ms: int) -> bool:
        """Whether the head reached `height` in time."""
        if self._chain.head.height >= height:
            return True
        self._check_room()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (height, future)
        self._height_waiters.append(entry)
        self._count += 1
        try:
            await asyncio.wait_for(future, timeout_ms / 1000)
        except TimeoutError:
            return self._chain.head.height >= height
        finally:
            self._count -= 1
            self._height_waiters.remove(entry)
        return True

    def _check_room(self) -> None:
        if self._count >= self._waits_max:
            raise TooMany(
                "too_many_waits",
                f"{self._waits_max} requests that wait found",
                "ask again without wait_ms, or later",
                retry_after_seconds=1,
            )

    def _on_committed(self, block: CommittedBlock) -> None:
        for height, ready in self._height_waiters:
            if height <= block.header.height and not ready.done():
                ready.set_result(None)
        if not self._waiters:
            return
        for receipt in block.receipts:
            for future in self._waiters.get(receipt.transaction_id, ()):
                if not future.done():
                    future.set_result(receipt)

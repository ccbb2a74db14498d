"""Waiting for a transaction's end: what is committed is told whole, at the last moment too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from client import draw_identifier
from contracts.calls.folders import RegisterAlias
from gateway.receipts import ReceiptWaiter

WAIT_MS = 20


def call_once_time_is_up(turns: int, work: Callable[[], None]) -> None:
    """Stall the event loop until the time is up; then work in its so-many-th turn."""
    time.sleep(2 * WAIT_MS / 1_000)
    call_after_turns(turns, work)


def call_after_turns(turns: int, work: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(*((call_after_turns, turns - 1, work) if turns else (work,)))


@pytest.mark.parametrize("turns", range(6))
async def test_a_block_that_is_committed_just_as_the_wait_ends_is_told_whole(
    consortium: Any, turns: int
) -> None:
    """Between a timer and whoever wakes up by it lie turns of the event loop; blocks come in any of them."""
    east = consortium.east
    waiter = ReceiptWaiter(east.chain, waits_max=4)
    call = RegisterAlias(draw_identifier(), east.institution, b"", b"")
    transaction = consortium.sign(east).sign(call)
    consortium.orderer.is_paused = True
    await (await consortium.open(east)).submit([transaction])
    height = east.chain.head.height + 1

    async def wait_for_receipt() -> bool:
        """Whether the answer is what the ledger says at that moment."""
        receipt = await waiter.wait(transaction.transaction_id, WAIT_MS)
        return bool(receipt == east.chain.get_receipt(transaction.transaction_id))

    async def wait_for_height() -> bool:
        is_reached = await waiter.wait_for_height(height, WAIT_MS)
        return bool(is_reached is (east.chain.head.height >= height))

    waits = [asyncio.create_task(wait()) for wait in (wait_for_receipt, wait_for_height)]
    await asyncio.sleep(0)
    call_once_time_is_up(turns, consortium.orderer.commit)
    assert await asyncio.gather(*waits) == [True, True]
    waiter.close()

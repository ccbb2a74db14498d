"""A node ends once, for the first reason that there is."""

from __future__ import annotations

import asyncio
import threading

import pytest

from daemon.lifetime import Ending, Lifetime


async def test_a_node_that_was_told_to_stop_stops_whatever_it_learns_afterwards() -> None:
    lifetime = Lifetime()
    lifetime.stop()
    lifetime.end(Ending.FOR_SNAPSHOT)
    lifetime.halt(OSError("the disk failed while winding up"))
    assert await lifetime.ended is Ending.ON_REQUEST


async def test_what_halts_a_node_goes_before_what_stops_it_later() -> None:
    lifetime = Lifetime()
    lifetime.halt(OSError("the disk failed"))
    lifetime.stop()
    with pytest.raises(OSError, match="the disk failed"):
        await lifetime.ended


async def test_another_thread_may_halt_a_node() -> None:
    lifetime = Lifetime()
    thread = threading.Thread(target=lifetime.halt_from_thread, args=(OSError("no space"),))
    thread.start()
    with pytest.raises(OSError, match="no space"):
        await asyncio.wait_for(lifetime.ended, 30)
    thread.join()

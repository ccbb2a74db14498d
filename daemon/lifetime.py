"""How long a node runs, and what ends it.

What comes first counts: a node that was told to stop does stop, whatever it learns while it winds up.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto


class Ending(Enum):
    """Why a node left off."""

    ON_REQUEST = auto()
    FOR_NEW_KEY = auto()
    """Another key of this node has taken over: it is to start again with that."""
    FOR_SNAPSHOT = auto()
    """Blocks alone do not help: it is to fetch a snapshot, and to start again on that."""
    HALTED = auto()
    """It could not go on; the log says why."""


class Lifetime:
    """Ends once. Made and used on the event loop, `halt_from_thread` apart."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        """Raises what halted the node."""

    def end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)

    def stop(self) -> None:
        """Somebody asks for it."""
        self.end(Ending.ON_REQUEST)

    def halt(self, error: BaseException) -> None:
        """Something that the node must not outlive."""
        if not self.ended.done():
            self.ended.set_exception(error)

    def halt_from_thread(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self.halt, error)

"""Long work in a thread of its own, in slices, so that the node's event loop keeps its turn.

Python runs one thread at a time; a thread that works without a pause makes every step of consensus wait for
it. So long work asks a `Pacer` for leave after each small piece: it rests when a slice is used up, and ends
the work when the node is to stop.
"""

from __future__ import annotations

import threading
import time
from typing import Final

SLICE_SECONDS: Final = 0.002
REST_SECONDS: Final = 0.006
"""A quarter of one core at most while the node works."""


class WorkStopped(Exception):
    """The node stops: the work is given up, and nothing half-made counts."""


class Pacer:
    """Slices and rests of one piece of long work; `stop` may be called from any thread."""

    def __init__(self, *, slice_seconds: float = SLICE_SECONDS, rest_seconds: float = REST_SECONDS) -> None:
        self._slice_seconds = slice_seconds
        self._rest_seconds = rest_seconds
        self._stopped = threading.Event()
        self._began = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()

    def pause(self) -> None:
        """Rest if the slice is used up. Raises WorkStopped once the work is to end."""
        if time.monotonic() - self._began < self._slice_seconds and not self._stopped.is_set():
            return
        if self._stopped.wait(self._rest_seconds):
            raise WorkStopped
        self._began = time.monotonic()

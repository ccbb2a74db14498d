"""Whether this process was told to stop: by SIGTERM, by SIGINT, or by closing its standard input.

It may be told at any time, also while disks are opened or between two lives of its node; so the handlers are
the process's own, and do not come and go with an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Made once and never taken back; for the main thread."""

    def __init__(self, *, watches_stdin: bool = False) -> None:
        """`watches_stdin`: whoever started this process may also stop it by closing its standard input."""
        self._watches_stdin = watches_stdin
        self._tell: Callable[[], object] | None = None
        self.is_made = False

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Hear signals for so long."""
        previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def heard_by(self, stop: Callable[[], None]) -> Iterator[None]:
        """For so long call `stop` on the running event loop; at once if the request was made before."""
        loop = asyncio.get_running_loop()
        self._tell = lambda: loop.call_soon_threadsafe(stop)
        if self._watches_stdin:
            loop.add_reader(sys.stdin.fileno(), self._on_stdin)
        if self.is_made:
            stop()
        try:
            yield
        finally:
            self._tell = None
            if self._watches_stdin:
                loop.remove_reader(sys.stdin.fileno())

    def make(self) -> None:
        self.is_made = True
        if self._tell is not None:
            self._tell()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.make()

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4_096):
            self.make()

"""New transactions on their way to all peers: in frames while many come, at once otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from network.settings import RelaySettings


class RelayOutbox:
    """Holds less than one frame; on the event loop."""

    def __init__(
        self, broadcast: Callable[[list[bytes]], None], settings: RelaySettings, clock_ms: Callable[[], int]
    ) -> None:
        """`broadcast` sends one frame to every peer."""
        self._broadcast = broadcast
        self._settings = settings
        self._clock_ms = clock_ms
        self._gathered: list[bytes] = []
        self._size_bytes = 0
        self._flushed_ms = 0
        self._flush_handle: asyncio.Handle | None = None

    def put(self, signed_bytes: bytes) -> None:
        """Send it with what comes soon after; at once when nothing was sent lately."""
        settings = self._settings
        self._gathered.append(signed_bytes)
        self._size_bytes += len(signed_bytes)
        if (
            len(self._gathered) >= settings.batch_transactions_max
            or self._size_bytes >= settings.batch_bytes_max
        ):
            self._flush()
        elif self._flush_handle is None:
            loop = asyncio.get_running_loop()
            wait_ms = self._flushed_ms + settings.delay_ms - self._clock_ms()
            if wait_ms <= 0:
                self._flush_handle = loop.call_soon(self._flush)
            else:
                self._flush_handle = loop.call_later(wait_ms / 1_000, self._flush)

    def close(self) -> None:
        """Send nothing more."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._gathered:
            return
        gathered, self._gathered, self._size_bytes = self._gathered, [], 0
        self._flushed_ms = self._clock_ms()
        self._broadcast(gathered)

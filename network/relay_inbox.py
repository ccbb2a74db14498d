"""What one peer has relayed and waits for verification, and how long the peer is listened to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container

from ledger.transaction import compute_signed_hash
from network.settings import RelaySettings


class RelayInbox:
    """Bounded by `peer_transactions_max` and `peer_bytes_max`: the oldest give way."""

    def __init__(self, settings: RelaySettings, clock_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._clock_ms = clock_ms
        self._waiting: deque[bytes] = deque()
        self._oldest: bytes | None = None
        self._size_bytes = 0
        self._cut_until_ms = 0
        self._paused_until_ms = 0
        self._strangers = 0
        """Transactions of unknown senders since the moment that follows."""
        self._strangers_since_ms = 0

    def __len__(self) -> int:
        """Transactions that wait."""
        return len(self._waiting) + self.has_oldest

    @property
    def is_due(self) -> bool:
        """Whether something waits that may be taken now."""
        return bool(self._waiting) and self._clock_ms() >= self._paused_until_ms

    @property
    def has_oldest(self) -> bool:
        """Whether something is here that the peer has waited for longest."""
        return self._oldest is not None

    def put_oldest(self, signed: bytes) -> None:
        """It is taken before all others; the one before gives way."""
        if self._clock_ms() >= self._cut_until_ms:
            self._oldest = signed

    def take_oldest(self) -> bytes:
        assert self._oldest is not None, "nothing is here"
        taken, self._oldest = self._oldest, None
        return taken

    def put(self, signed: list[bytes]) -> int:
        """A frame came; how many transactions gave way, of this frame or of what waited."""
        if self._clock_ms() < self._cut_until_ms:
            return len(signed)
        self._waiting.extend(signed)
        self._size_bytes += sum(map(len, signed))
        dropped = 0
        while self._waiting and self._is_too_full():
            self._size_bytes -= len(self._waiting.popleft())
            dropped += 1
        return dropped

    def take(self) -> list[bytes]:
        """The oldest, one chunk of them."""
        count = min(self._settings.verification_chunk_max, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        self._size_bytes -= sum(map(len, taken))
        return taken

    def take_named(self, signed_hashes: Container[bytes]) -> dict[bytes, bytes]:
        """Those with one of these hashes, by hash; about a microsecond for each that waits."""
        taken: dict[bytes, bytes] = {}
        left: deque[bytes] = deque()
        for signed_bytes in self._waiting:
            signed_hash = compute_signed_hash(signed_bytes)
            if signed_hash in signed_hashes:
                taken[signed_hash] = signed_bytes
                self._size_bytes -= len(signed_bytes)
            else:
                left.append(signed_bytes)
        self._waiting = left
        return taken

    def pause(self) -> None:
        """There is no room for what waits here: nothing is due for a moment."""
        self._paused_until_ms = self._clock_ms() + self._settings.room_pause_ms

    def cut(self) -> int:
        """The peer is not listened to for a while; how many transactions are dropped for it."""
        self._cut_until_ms = self._clock_ms() + self._settings.cut_ms
        dropped = len(self._waiting)
        self._waiting.clear()
        self._oldest = None
        self._size_bytes = 0
        return dropped

    def is_one_stranger_too_many(self) -> bool:
        """Count a transaction of an unknown sender; whether the peer has passed on more than it may."""
        now_ms = self._clock_ms()
        if now_ms - self._strangers_since_ms > self._settings.cut_ms:
            self._strangers, self._strangers_since_ms = 0, now_ms
        self._strangers += 1
        return self._strangers > self._settings.strangers_max

    def _is_too_full(self) -> bool:
        settings = self._settings
        return (
            len(self._waiting) > settings.peer_transactions_max or self._size_bytes > settings.peer_bytes_max
        )

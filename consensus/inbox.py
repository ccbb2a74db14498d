"""Messages that wait for the replica: bounded for each peer, taken from all peers in turn.

Of a peer that sends more than an honest one ever does messages wait, then are dropped; STATUS repairs what it
lost by that. It delays nobody else's messages, and costs no more than its share of each tick to decode and
verify, however much it sends (rule D1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from consensus.replica_set import ReplicaId


class Inbox:
    """Undecoded messages by peer; peers are members and followers, so there are few."""

    def __init__(self, *, peer_messages_max: int, peer_bytes_max: int, peer_messages_per_tick: int) -> None:
        self._messages_max = peer_messages_max
        self._bytes_max = peer_bytes_max
        self._per_tick = peer_messages_per_tick
        self._waiting: dict[ReplicaId, deque[bytes]] = {}
        self._bytes: dict[ReplicaId, int] = {}
        self._taken: dict[ReplicaId, int] = {}
        """How many were taken of each peer since the last tick."""

    def put(self, sender: ReplicaId, data: bytes) -> bool:
        """False when the peer's bound is reached: the message is dropped."""
        queue = self._waiting.setdefault(sender, deque())
        waiting_bytes = self._bytes.get(sender, 0) + len(data)
        if len(queue) >= self._messages_max or waiting_bytes > self._bytes_max:
            return False
        queue.append(data)
        self._bytes[sender] = waiting_bytes
        return True

    def tick(self) -> None:
        """Every peer may be heard again."""
        self._taken.clear()

    def has_due(self) -> bool:
        """Whether anything waits that may be taken before the next tick."""
        return any(
            queue and self._taken.get(sender, 0) < self._per_tick for sender, queue in self._waiting.items()
        )

    def take(self, count_max: int) -> Iterator[tuple[ReplicaId, bytes]]:
        """At most `count_max` messages, one of each peer in turn."""
        left = count_max
        while left and self.has_due():
            for sender, queue in self._waiting.items():
                taken = self._taken.get(sender, 0)
                if left and queue and taken < self._per_tick:
                    data = queue.popleft()
                    left -= 1
                    self._taken[sender] = taken + 1
                    self._bytes[sender] -= len(data)
                    yield sender, data

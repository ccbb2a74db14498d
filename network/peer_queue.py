"""What waits to be sent to one peer: bounded, in order of urgency, never blocking.

Votes go first, then requests, the oldest pending transaction and answers, then relayed transactions. Nothing
that is dropped here is lost for good: STATUS repairs votes, requests time out, and bodies that a proposal
names are fetched.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from network.frames import Channel, encode_frame
from network.settings import CONSENSUS_BATCH_MAX, LinkSettings

GREETINGS_MAX: Final = 4


class PeerQueue:
    """Frames for one peer."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._greetings: deque[bytes] = deque(maxlen=GREETINGS_MAX)
        self._consensus: deque[bytes] = deque()
        self._consensus_bytes = 0
        self._requests: deque[bytes] = deque(maxlen=settings.requests_max)
        self._oldest: deque[bytes] = deque(maxlen=1)
        self._answers: deque[bytes] = deque()
        self._relay: deque[bytes] = deque()
        self._relay_bytes = 0
        self.consensus_dropped = 0
        self.relay_frames_dropped = 0

    @property
    def has_room_for_answer(self) -> bool:
        return len(self._answers) < self._settings.answers_max

    def put_greeting(self, message: bytes) -> None:
        """Ahead of everything; the oldest give way, for the newest says all."""
        self._greetings.append(message)

    def put_consensus(self, message: bytes) -> bool:
        """False when the bound is reached: the message is dropped."""
        if (
            len(self._consensus) >= self._settings.consensus_messages_max
            or self._consensus_bytes + len(message) > self._settings.consensus_bytes_max
        ):
            self.consensus_dropped += 1
            return False
        self._consensus.append(message)
        self._consensus_bytes += len(message)
        return True

    def put_request(self, message: bytes) -> None:
        """The oldest give way: on a link that stands still they have timed out, and others were asked."""
        self._requests.append(message)

    def put_oldest(self, signed: bytes) -> None:
        """The transaction that has waited longest here; the one before gives way."""
        self._oldest.append(signed)

    def put_answer(self, message: bytes) -> None:
        """The caller asks `has_room_for_answer` before it makes one."""
        self._answers.append(message)

    def put_relay_frame(self, frame: bytes) -> None:
        """An encoded frame, shared by all peers' queues; the oldest give way."""
        self._relay.append(frame)
        self._relay_bytes += len(frame)
        while self._relay_bytes > self._settings.relay_bytes_max and len(self._relay) > 1:
            self._relay_bytes -= len(self._relay.popleft())
            self.relay_frames_dropped += 1

    def take(self) -> bytes | None:
        """The next frame, or None when nothing waits."""
        if self._greetings:
            return encode_frame(Channel.GREETING, [self._greetings.popleft()])
        if self._consensus:
            return encode_frame(Channel.CONSENSUS, self._take_consensus())
        if self._requests:
            return encode_frame(Channel.REQUEST, [self._requests.popleft()])
        if self._oldest:
            return encode_frame(Channel.OLDEST, [self._oldest.popleft()])
        if self._answers:
            return encode_frame(Channel.ANSWER, [self._answers.popleft()])
        if self._relay:
            frame = self._relay.popleft()
            self._relay_bytes -= len(frame)
            return frame
        return None

    def clear(self) -> None:
        """The link is gone: what waited would be stale by the time it is up again."""
        for waiting in (
            self._greetings,
            self._consensus,
            self._requests,
            self._oldest,
            self._answers,
            self._relay,
        ):
            waiting.clear()
        self._consensus_bytes = self._relay_bytes = 0

    def _take_consensus(self) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        while self._consensus and size < self._settings.batch_bytes and len(taken) < CONSENSUS_BATCH_MAX:
            message = self._consensus.popleft()
            size += len(message)
            taken.append(message)
        self._consensus_bytes -= size
        return taken

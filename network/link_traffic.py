"""What happens on a link while there is one: frames go out, frames come in, and garbage ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, TypeAlias

import aiohttp
import structlog
from aiohttp import web

from consensus.replica_set import ReplicaId
from network.frames import BadFrame, Channel, decode_frame
from network.link_ports import LinkHandlers
from network.peer import Peer
from network.requests import BadRequest, decode_answer, decode_request
from network.serving import Serving
from network.sessions import Sessions
from network.settings import LinkSettings

AnyWebSocket: TypeAlias = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

GREETINGS_PER_LINK_MAX: Final = 64
"""Each is verified; an honest node greets once, and again when it is told of a session of its own."""

FRAME_WEIGHT: Final = 4
"""As how many messages a frame counts, besides those in it: reading one costs about so much."""
BYTES_PER_MESSAGE: Final = 2_048
"""And as one more for so many bytes: at the rate of the defaults, 16 MB a second."""
DROPPED_REQUEST_WEIGHT: Final = 16
"""And a request for which there was no room: no honest node asks so much."""

_log = structlog.get_logger("network.links")


class LinkTraffic:
    """Runs the links of all peers."""

    def __init__(self, settings: LinkSettings, sessions: Sessions, keys: Mapping[ReplicaId, bytes]) -> None:
        """`keys` of those that may have a link; the owner of the links changes them."""
        self._settings = settings
        self._sessions = sessions
        self._keys = keys
        self._closing: set[asyncio.Task[object]] = set()
        self._answering: asyncio.Task[None] | None = None
        self.handlers: LinkHandlers | None = None
        self.serving = Serving(settings, on_bad_request=self.cut, on_defect=self._end)

    def start(self, handlers: LinkHandlers) -> None:
        """Hand on what comes to these from now on, and answer requests."""
        self.handlers = handlers
        self._answering = asyncio.create_task(self.serving.run())

    async def wait_closed(self) -> None:
        """Answer nothing any more, and return when every leave-taking has ended."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def run(self, peer: Peer, socket: AnyWebSocket) -> None:
        """Until the link ends: write what waits, hand on what comes."""
        assert self.handlers is not None
        previous = peer.attach(socket)
        if previous is not None:
            self.close_socket(previous, 1001, "replaced")
        _log.info("link up", replica=peer.replica)
        peer.queue.put_greeting(self._sessions.greet())
        peer.has_frames.set()
        writer = asyncio.create_task(self._write(peer, socket))
        try:
            self.handlers.on_connected(peer.replica)
            await self._read(peer, socket)
        finally:
            writer.cancel()
            if peer.detach(socket):
                _log.info("link down", replica=peer.replica)
            self.close_socket(socket, 1000, "")

    async def _write(self, peer: Peer, socket: AnyWebSocket) -> None:
        try:
            while peer.socket is socket:  # Not the queue's writer any more once the link is replaced.
                frame = peer.queue.take()
                if frame is None:
                    peer.has_frames.clear()
                    await peer.has_frames.wait()
                    continue
                self.serving.wake()
                await socket.send_bytes(frame)
                peer.counters.frames_sent += 1
                peer.counters.bytes_sent += len(frame)
        except (OSError, aiohttp.ClientError):
            self.close_socket(socket, 1001, "")  # The reader finds the end and winds up.

    async def _read(self, peer: Peer, socket: AnyWebSocket) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                try:
                    weight = self._dispatch(peer, message.data)
                except (BadFrame, BadRequest) as error:
                    self.cut(peer, str(error))
                    return
                if pause_ms := peer.charge(weight):
                    await asyncio.sleep(pause_ms / 1_000)
            else:
                self.cut(peer, f"a WebSocket message of type {message.type.name}, a binary one expected")
                return
        if socket.close_code in (1002, 1007, 1009) and peer.socket is socket:
            self.cut(peer, f"WebSocket error {socket.close_code}")

    def _dispatch(self, peer: Peer, data: bytes) -> int:
        """As how many messages the frame counts."""
        assert self.handlers is not None
        if peer.get_ban_left_ms():
            return 0
        peer.counters.frames_received += 1
        peer.counters.bytes_received += len(data)
        frame = decode_frame(data, messages_max=self._settings.frame_messages_max)
        weight = FRAME_WEIGHT + len(frame.messages) + len(data) // BYTES_PER_MESSAGE
        match frame.channel:
            case Channel.CONSENSUS:
                for message in frame.messages:
                    self.handlers.on_consensus(peer.replica, message)
            case Channel.TRANSACTIONS:
                self.handlers.on_transactions(peer.replica, frame.messages)
            case Channel.OLDEST:
                if len(frame.messages) != 1:
                    raise BadFrame(f"{len(frame.messages)} oldest transactions found, 1 expected")
                self.handlers.on_oldest(peer.replica, frame.messages[0])
            case Channel.REQUEST:
                for message in frame.messages:
                    if not self.serving.put(peer, decode_request(message)):
                        weight += DROPPED_REQUEST_WEIGHT
            case Channel.ANSWER:
                for message in frame.messages:
                    peer.requests.close(decode_answer(message))
            case Channel.GREETING:
                for message in frame.messages:
                    self._greet(peer, message)
        return weight

    def _greet(self, peer: Peer, message: bytes) -> None:
        peer.greetings += 1
        if peer.greetings > GREETINGS_PER_LINK_MAX:
            raise BadRequest(f"{peer.greetings} greetings on one link")
        answer, runs_twice = self._sessions.on_greeting(peer.replica, message, self._keys)
        peer.counters.copies += runs_twice
        if answer is not None:
            peer.queue.put_greeting(answer)
            peer.has_frames.set()

    def cut(self, peer: Peer, reason: str) -> None:
        peer.ban()
        peer.counters.penalties += 1
        _log.warning("peer cut off", replica=peer.replica, reason=reason, for_ms=peer.get_ban_left_ms())
        if peer.socket is not None:
            self.close_socket(peer.socket, 1008, "cut off")

    def _end(self, peer: Peer) -> None:
        if peer.socket is not None:
            self.close_socket(peer.socket, 1011, "a defect")

    def close_socket(self, socket: object, code: int, message: str) -> None:
        """Take leave in the background; the peer may take its time."""
        assert isinstance(socket, web.WebSocketResponse | aiohttp.ClientWebSocketResponse)
        task: asyncio.Task[object] = asyncio.ensure_future(socket.close(code=code, message=message.encode()))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

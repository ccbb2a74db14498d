"""A door: a listening address that lets in so many connections at once, handshakes included, and no more.

A connection costs a file descriptor and some tens of kilobytes before anybody knows who it is. Were there no
bound, strangers could take all descriptors of the process, and the next file that the ledger opens would
fail. Whoever comes beyond the bound is turned away at once and counted; who comes in and asks for nothing
goes again, so that silent ones cannot keep the places.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

import structlog
from aiohttp import web

ACCEPT_PAUSE_SECONDS: Final = 0.1
"""After an error of `accept`, which usually means that the process is short of descriptors."""
BACKLOG: Final = 256

_log = structlog.get_logger("network.doors")


class Door(web.BaseSite):
    """A site of an aiohttp runner, which stops it; connections end with the runner."""

    def __init__(
        self,
        runner: web.AppRunner,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext,
        connections_max: int,
        silence_ms_max: int,
    ) -> None:
        """`silence_ms_max` is for the handshake, and again from there to the first request's headers."""
        super().__init__(runner, ssl_context=tls)
        self._app_runner = runner
        self._address = (host, port)
        self._tls = tls
        self._connections_max = connections_max
        self._silence_seconds = silence_ms_max / 1_000
        self._unheard: set[object] = set()
        self._entering: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self.turned_away = 0
        """Connections beyond the bound, since the start."""
        self.silent = 0
        """Connections that were ended because they asked for nothing."""

    @property
    def name(self) -> str:
        return f"https://{self._address[0]}:{self.port}"

    @property
    def port(self) -> int:
        """The port in use; told apart from the wanted one when that was 0."""
        port: int = self._sockets[0].getsockname()[1] if self._sockets else self._address[1]
        return port

    @property
    def count(self) -> int:
        """Connections now, those still in their handshake included."""
        server = self._app_runner.server
        return len(self._entering) + (0 if server is None else len(server.connections))

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        await super().start()
        self._listen_for_requests()
        loop = asyncio.get_running_loop()
        host, port = self._address
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            self._sockets.append(_listen(family, address))
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]

    async def stop(self) -> None:
        """Listen no more, and drop who has not come in yet."""
        for task in (*self._accepting, *self._entering):
            task.cancel()
        await asyncio.gather(*self._accepting, *self._entering, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        await super().stop()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("connection not accepted", reason=error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if self.count >= self._connections_max:
                self.turned_away += 1
                connection.close()
                continue
            task = loop.create_task(self._enter(connection))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _enter(self, connection: socket.socket) -> None:
        """The TLS handshake; from its end on the connection is the server's."""
        server = self._app_runner.server
        assert server is not None
        loop, handler = asyncio.get_running_loop(), server()
        # Before the handshake ends: the first request may come with its last bytes.
        self._unheard.add(handler)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                lambda: handler, connection, ssl=self._tls, ssl_handshake_timeout=self._silence_seconds
            )
        except OSError:
            self._unheard.discard(handler)  # Whoever cannot speak TLS, or does not, is no concern of ours.
        else:
            loop.call_later(self._silence_seconds, self._end_if_silent, handler)

    def _listen_for_requests(self) -> None:
        """Note which connections have sent the headers of a request."""
        server = self._app_runner.server
        assert server is not None
        make_request = server.request_factory

        def note_and_make(*parts: Any) -> web.BaseRequest:
            request = make_request(*parts)
            self._unheard.discard(request.protocol)
            return request

        server.request_factory = note_and_make

    def _end_if_silent(self, handler: web.RequestHandler) -> None:
        if handler in self._unheard:
            self._unheard.discard(handler)
            self.silent += handler.transport is not None
            handler.force_close()


def _listen(family: int, address: object) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gives it
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        told = (error.strerror or "").lower()
        raise OSError(error.errno, f"address {address} cannot be listened on: {told}") from error
    return listening

"""Links: one WebSocket over mutual TLS 1.3 for each pair of nodes.

The node with the lower replica id dials, the other accepts; so there is never a second link to agree about. A
new link of a peer replaces the one before, which may be dead without knowing it.

Invariants:

- Nothing is taken from a peer before its certificate's key was found to be the ledger's for the id that it
  claims: a member's, or that of a registered node that follows.
- Sending never blocks and never raises: what cannot wait any more is dropped and counted.
- A frame is bounded before it is decoded; a peer that sends garbage is cut off for a while.

What consensus messages and transactions say is not known here; handlers are plain functions on the event
loop, and what they raise is a defect of this node and ends the link.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from consensus.replica_set import ReplicaId, ReplicaSet
from crypto.signatures import SigningKey
from network.doors import Door
from network.frames import Channel, encode_frame
from network.link_greeting import LinkRefused, compose_greeting, identify_dialler
from network.link_ports import KnownNode, LinkHandlers, PeerAddress, RefusedLinks, RequestHandler
from network.link_traffic import LinkTraffic
from network.peer import Peer, PeerCounters
from network.requests import RequestFailed, RequestKind
from network.sessions import Sessions
from network.settings import LinkSettings
from network.tls import LinkTls, PeerRefused, get_peer_certificate, verify_peer

PATH: Final = "/link"
LOGGED_REFUSALS_MAX: Final = 100
"""Refused links that are logged one by one; further ones are only counted."""

_log = structlog.get_logger("network.links")


class Links:
    """`consensus.ports.Transport` over the links of one node."""

    def __init__(
        self,
        *,
        replica: ReplicaId,
        replica_set: ReplicaSet,
        chain_id: bytes,
        tls: LinkTls,
        signing_key: SigningKey,
        listen_host: str,
        listen_port: int,
        addresses: tuple[PeerAddress, ...],
        settings: LinkSettings | None = None,
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        """Until `update_nodes` is called the members of `replica_set` are known, and nobody else. An address
        given here goes before what a node says of itself on the ledger."""
        self._replica = replica
        self._keys: dict[ReplicaId, bytes] = {}
        self._chain_id = chain_id
        self._tls = tls
        self._listen = (listen_host, listen_port)
        self._own_addresses = {address.replica: address for address in addresses}
        self._addresses: dict[ReplicaId, PeerAddress] = {}
        self._settings = settings or LinkSettings()
        self._clock_ms = clock_ms
        self._peers: dict[ReplicaId, Peer] = {}
        self._sessions = Sessions(replica, chain_id, signing_key.public_key, signing_key.sign)
        self._traffic = LinkTraffic(self._settings, self._sessions, self._keys)
        self._dialers: dict[ReplicaId, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._door: Door | None = None
        self.refused = RefusedLinks()
        self.update_nodes(
            KnownNode(replica=ReplicaId(member.replica), public_key=member.public_key)
            for member in replica_set.members
        )

    # Life

    async def start(self, handlers: LinkHandlers) -> None:
        """Listen and dial. Raises OSError when the address cannot be had."""
        app = web.Application()
        app.router.add_get(PATH, self._accept)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        host, port = self._listen
        self._door = Door(
            self._runner,
            host=host,
            port=port,
            tls=self._tls.server_context,
            connections_max=self._settings.sockets_max,
            silence_ms_max=self._settings.connect_timeout_ms,
        )
        await self._door.start()
        self._traffic.start(handlers)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls.client_context, limit=0, use_dns_cache=False)
        )
        self._dial_missing()

    async def close(self) -> None:
        """End all links and stop listening."""
        for dialer in self._dialers.values():
            dialer.cancel()
        await asyncio.gather(*self._dialers.values(), return_exceptions=True)
        for peer in self._peers.values():
            if peer.socket is not None:
                self._traffic.close_socket(peer.socket, 1001, "going away")
        await self._traffic.wait_closed()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def update_nodes(self, nodes: Iterable[KnownNode]) -> None:
        """Who may have a link from now on: new ones are dialled or awaited.

        The links of all others end, and of those who are known by another key or address.
        """
        known = {node.replica: node for node in nodes if node.replica != self._replica}
        for replica in self._peers.keys() - known.keys():
            self._let_go(replica, "not known any more")
        for replica, node in known.items():
            address = self._own_addresses.get(replica)
            if address is None and node.host:
                address = PeerAddress(replica=replica, host=node.host, port=node.port)
            same = (self._keys.get(replica), self._addresses.get(replica)) == (node.public_key, address)
            if replica in self._peers and not same:
                self._let_go(replica, "known by another key or address")
            if replica not in self._peers:
                self._peers[replica] = Peer(replica, self._settings, self._clock_ms)
            self._keys[replica] = node.public_key
            if address is not None:
                self._addresses[replica] = address
        self._dial_missing()

    def serve(self, kind: RequestKind, handler: RequestHandler) -> None:
        """Answer the peers' requests of this kind."""
        self._traffic.serving.handlers[kind] = handler

    # What the rest of the node asks for

    @property
    def listen_port(self) -> int:
        """The port in use; told apart from the wanted one when that was 0."""
        assert self._door is not None
        return self._door.port

    @property
    def connected(self) -> tuple[ReplicaId, ...]:
        """The peers with a link now, in ascending order."""
        return tuple(sorted(replica for replica, peer in self._peers.items() if peer.is_connected))

    @property
    def counters(self) -> Mapping[ReplicaId, PeerCounters]:
        return {replica: peer.counters for replica, peer in self._peers.items()}

    @property
    def dropped(self) -> Mapping[ReplicaId, tuple[int, int]]:
        """By peer: consensus messages and relay frames that gave way to the bounds."""
        return {
            replica: (peer.queue.consensus_dropped, peer.queue.relay_frames_dropped)
            for replica, peer in self._peers.items()
        }

    @property
    def copy_reason(self) -> str:
        """Why no consensus message leaves: another process has this node's key; empty unless it does."""
        return self._sessions.copy_reason

    def send(self, replica: ReplicaId, message: bytes) -> None:
        """A consensus message to one peer, ahead of everything that is not one."""
        peer = self._peers.get(replica)
        # Of two that vote with one key neither may: together they could contradict themselves.
        if peer is None or not peer.is_connected or self.copy_reason:
            if peer is not None:
                peer.counters.unsent += 1
            return
        if peer.queue.put_consensus(message):
            peer.has_frames.set()

    def broadcast(self, message: bytes) -> None:
        """A consensus message to every peer."""
        for replica in self._peers:
            self.send(replica, message)

    def broadcast_transactions(self, signed: list[bytes]) -> None:
        """Transactions to every peer, in one frame that is encoded once."""
        frame = encode_frame(Channel.TRANSACTIONS, signed)
        for peer in self._peers.values():
            self._put_relay_frame(peer, frame)

    def send_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None:
        """Transactions to one peer."""
        peer = self._peers.get(replica)
        if peer is not None:
            self._put_relay_frame(peer, encode_frame(Channel.TRANSACTIONS, signed))

    def send_oldest(self, replica: ReplicaId, signed: bytes) -> None:
        """The transaction that has waited longest here to one peer, ahead of all other transactions."""
        peer = self._peers.get(replica)
        if peer is not None and peer.is_connected:
            peer.queue.put_oldest(signed)
            peer.has_frames.set()

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None:
        """The peer's answer, None when it refuses. Raises RequestFailed."""
        peer = self._peers.get(replica)
        if peer is None or not peer.is_connected:
            raise RequestFailed(f"replica {replica}: no link")
        message, answer = peer.requests.open(kind, payload)
        peer.queue.put_request(message)
        peer.has_frames.set()
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                return await answer
        except TimeoutError as error:
            raise RequestFailed(f"replica {replica}: no answer within {timeout_ms} ms") from error

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        """Count what no honest node sends; a peer that does it often is cut off for a while."""
        peer = self._peers.get(replica)
        if peer is not None and peer.add_penalty():
            self._traffic.cut(peer, reason)

    # Parts of the above

    def _put_relay_frame(self, peer: Peer, frame: bytes) -> None:
        if peer.is_connected:
            peer.queue.put_relay_frame(frame)
            peer.has_frames.set()

    def _dial_missing(self) -> None:
        """Keep dialling every known node with a higher id, once there is something to dial with."""
        if self._session is None:
            return
        for replica, peer in self._peers.items():
            if self._replica < replica and replica in self._addresses and replica not in self._dialers:
                self._dialers[replica] = asyncio.create_task(self._dial_forever(peer))

    def _let_go(self, replica: ReplicaId, reason: str) -> None:
        if replica in self._dialers:
            self._dialers.pop(replica).cancel()
        self._keys.pop(replica, None)
        self._sessions.forget({replica})
        self._addresses.pop(replica, None)
        socket = self._peers.pop(replica).socket
        if socket is not None:
            self._traffic.close_socket(socket, 1008, reason)

    async def _dial_forever(self, peer: Peer) -> None:
        """Keep a link to one peer; failures are waited out, longer each time."""
        backoff_ms = self._settings.backoff_ms
        while True:
            opened = peer.counters.links_opened
            try:
                await self._dial(peer)
            except (aiohttp.ClientError, OSError, TimeoutError, PeerRefused) as error:
                _log.debug("link failed", replica=peer.replica, reason=str(error) or type(error).__name__)
            except Exception:
                # A handler's defect ends this link, and must not end the dialling for good.
                _log.exception("link ended by a defect", replica=peer.replica)
            if self.copy_reason:
                # The two would take each other's place on this link as fast as they can.
                backoff_ms = self._settings.backoff_ms_max
            elif peer.counters.links_opened > opened:
                backoff_ms = self._settings.backoff_ms
            # Spread, so that nodes that went down together do not all knock at the same moment.
            jitter = 1 + random.random() / 2  # noqa: S311
            await asyncio.sleep(max(backoff_ms * jitter, peer.get_ban_left_ms()) / 1_000)
            backoff_ms = min(2 * backoff_ms, self._settings.backoff_ms_max)

    async def _dial(self, peer: Peer) -> None:
        address, settings = self._addresses[peer.replica], self._settings
        assert self._session is not None
        async with asyncio.timeout(settings.connect_timeout_ms / 1_000):
            socket = await self._session.ws_connect(
                f"https://{_quote_host(address.host)}:{address.port}{PATH}",
                headers=compose_greeting(self._chain_id, self._replica),
                heartbeat=settings.heartbeat_ms / 1_000,
                max_msg_size=settings.frame_bytes_max,
                timeout=aiohttp.ClientWSTimeout(ws_close=settings.close_timeout_ms / 1_000),
            )
        try:
            certificate = get_peer_certificate(socket.get_extra_info("ssl_object"))
            verify_peer(certificate, peer.replica, self._keys)
        except PeerRefused:
            self.refused.add("certificate")
            await socket.close(code=1008)
            raise
        await self._traffic.run(peer, socket)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        try:
            peer = self._admit(request)
        except LinkRefused as refusal:
            count = self.refused.add(refusal.reason)
            if refusal.reason == "certificate" and count <= LOGGED_REFUSALS_MAX:
                _log.warning("link refused", reason=str(refusal.__cause__))
            return web.Response(status=refusal.status, text=str(refusal))
        settings = self._settings
        socket = web.WebSocketResponse(
            timeout=settings.close_timeout_ms / 1_000,
            heartbeat=settings.heartbeat_ms / 1_000,
            max_msg_size=settings.frame_bytes_max,
            compress=False,
        )
        await socket.prepare(request)
        await self._traffic.run(peer, socket)
        return socket

    def _admit(self, request: web.Request) -> Peer:
        """Who is at the door. Raises LinkRefused."""
        peer = self._peers.get(identify_dialler(request, self._chain_id, self._keys))
        if peer is None or peer.get_ban_left_ms():
            raise LinkRefused("not now", status=403, reason="banned")
        return peer


def _quote_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host

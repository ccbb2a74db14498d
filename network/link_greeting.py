"""How a link is asked for: three HTTP headers, and the certificate that the dialler has shown (N2, N3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from consensus.replica_set import ReplicaId
from network.tls import PeerRefused, get_peer_certificate, verify_peer

PROTOCOL_VERSION: Final = 1
_PROTOCOL: Final = "Chartchain-Protocol"
_CHAIN: Final = "Chartchain-Chain"
_REPLICA: Final = "Chartchain-Replica"


class LinkRefused(Exception):
    """Nobody gets in by this greeting; the message is the dialler's to read."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        """For metrics, one of `network.link_ports.RefusedLinks`."""


def compose_greeting(chain_id: bytes, replica: ReplicaId) -> dict[str, str]:
    """The headers of a dialler."""
    return {_PROTOCOL: str(PROTOCOL_VERSION), _CHAIN: chain_id.hex(), _REPLICA: str(replica)}


def identify_dialler(request: web.Request, chain_id: bytes, keys: Mapping[ReplicaId, bytes]) -> ReplicaId:
    """Who greets, its certificate's key being one of `keys`. Raises LinkRefused."""
    headers = request.headers
    claimed = headers.get(_REPLICA, "")
    if headers.get(_PROTOCOL) != str(PROTOCOL_VERSION) or not claimed.isascii():
        text = f"protocol version {PROTOCOL_VERSION} expected"
        raise LinkRefused(text, status=426, reason="greeting")
    if headers.get(_CHAIN) != chain_id.hex():
        text = "another chain: compare the genesis files"
        raise LinkRefused(text, status=409, reason="greeting")
    number = int(claimed) if claimed.isdigit() and len(claimed) <= 5 else -1
    shown = request.transport.get_extra_info("ssl_object") if request.transport else None
    try:
        verify_peer(get_peer_certificate(shown), number, keys)
    except PeerRefused as error:
        text = "this certificate is not that replica's"
        raise LinkRefused(text, status=403, reason="certificate") from error
    return ReplicaId(number)

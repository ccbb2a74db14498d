"""What every request passes before it is anybody's: rate and number at once; and a failed disk ends the node.

Whoever watches the node gets through whatever else is refused.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.bodies import BodyRoom
from gateway.errors import Handler, TooMany, Unavailable
from gateway.ports import Halt
from gateway.rates import RateLimit
from gateway.settings import GatewaySettings
from ledger.errors import StoreFailed
from vault.errors import VaultFailed

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class Guard:
    """The bounds of one gateway over all requests."""

    def __init__(self, settings: GatewaySettings, halt: Halt) -> None:
        self._at_once_max = settings.connections_max
        self._halt = halt
        self._in_progress = 0
        self._rate = RateLimit(
            name=f"{settings.requests_per_second_max} requests a second from one address",
            per_second=settings.requests_per_second_max,
            burst=settings.requests_burst,
            keys_max=settings.clients_max,
        )
        self.body_room = BodyRoom(settings.bodies_bytes_max)
        """For the bodies of all requests together; a request gives back what it took when it ends."""

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises TooMany, and Unavailable once a disk has failed (rule P7)."""
        if request.path in OPEN_PATHS:
            return await handler(request)
        self._rate.take(request.remote or "")
        if self._in_progress >= self._at_once_max:
            raise TooMany(
                "too_many_requests",
                f"{self._in_progress} requests in progress found",
                "wait, then ask again",
                retry_after_seconds=1,
            )
        self._in_progress += 1
        try:
            return await handler(request)
        except (StoreFailed, VaultFailed) as error:
            self._halt(error)
            raise Unavailable("node_stopping", "this node's disk failed", "ask another node") from error
        finally:
            self._in_progress -= 1
            self.body_room.give_back(request)

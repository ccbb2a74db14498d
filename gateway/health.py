"""`/healthz` and `/readyz`: whether the process lives, and whether clients should be sent to it."""

from __future__ import annotations

from aiohttp import web

from gateway.ports import GetReadiness


class Health:
    """Answers whoever watches the node: load balancers, operators, tests."""

    def __init__(self, get_readiness: GetReadiness) -> None:
        self._get_readiness = get_readiness

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/healthz", self._handle_health)
        router.add_get("/readyz", self._handle_ready)

    async def _handle_health(self, request: web.Request) -> web.StreamResponse:
        """The process runs and its loop turns; nothing more is said."""
        return web.json_response({"status": "alive"})

    async def _handle_ready(self, request: web.Request) -> web.StreamResponse:
        """503 with the reason while clients had better go elsewhere."""
        readiness = self._get_readiness()
        body: dict[str, object] = {"ready": readiness.is_ready, "reason": readiness.reason}
        if readiness.warning:
            body["warning"] = readiness.warning
        return web.json_response(body, status=200 if readiness.is_ready else 503)

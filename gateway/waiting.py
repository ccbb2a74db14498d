"""What a node answers while it has no ledger to answer from: that it lives, and why it is not ready."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.errors import Unavailable, answer_problems
from gateway.health import Health
from gateway.ports import Readiness


def build_waiting_gateway(get_reason: Callable[[], str]) -> web.Application:
    """`/healthz`, `/readyz` with 503 and the reason, and 503 `not_ready` for everything else."""

    async def handle_other(request: web.Request) -> web.StreamResponse:
        raise Unavailable("not_ready", get_reason(), "ask another node", retry_after_seconds=5)

    application = web.Application(middlewares=(answer_problems,), client_max_size=0)
    Health(lambda: Readiness(is_ready=False, reason=get_reason())).add_routes(application.router)
    application.router.add_route("*", "/{path:.*}", handle_other)
    return application

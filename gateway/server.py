"""Serving the application over TLS."""

from __future__ import annotations

import logging
import ssl

from aiohttp import web

from gateway.settings import GatewaySettings
from network.doors import Door

SHUTDOWN_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 75.0

_silent_log = logging.getLogger("gateway.http")
_silent_log.disabled = True


async def start_gateway(
    application: web.Application, *, settings: GatewaySettings, tls: ssl.SSLContext, port: int | None = None
) -> web.AppRunner:
    """Listen and serve; `await runner.cleanup()` stops. Raises OSError when the address is taken.

    `port` takes the place of the settings'.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        # What it would log of a request that it cannot parse holds the client's bytes, tokens among them.
        logger=_silent_log,
        # A compressed body is refused by its header; it must not be inflated before that.
        auto_decompress=False,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await Door(
            runner,
            host=settings.host,
            port=settings.port if port is None else port,
            tls=tls,
            connections_max=settings.sockets_max,
            silence_ms_max=settings.silence_ms_max,
        ).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner

"""Another institution's gateway that is hostile: nothing it answers gets further than a refusal."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from contracts.registry import InstitutionRow
from crypto.encoding import encode
from gateway.delivery import Delivery, TicketRequest
from gateway.errors import CopyRejected, NotThere, Refusal, Unavailable
from gateway.holders import Holders, RecordAlteredThere
from gateway.settings import GatewaySettings

TICKET = b"t" * 32
REQUEST = TicketRequest(institution=b"i" * 16, height=1, details=b"", salt=bytes(32), signature=bytes(64))
GOOD = Delivery(sealed=b"sealed", signature=bytes(64))

Fetch = Callable[..., Awaitable[Delivery]]


def describe(url: str) -> InstitutionRow:
    return InstitutionRow(
        institution=b"h" * 16,
        kind="hospital",
        name="holder",
        public_key=bytes(32),
        gateway_url=url,
        registered_height=0,
        changed_height=0,
        suspended_reason="",
        removed_height=0,
    )


@pytest.fixture
async def fetch_from(authority: dict[str, Path]) -> AsyncIterator[Callable[..., Awaitable[Delivery]]]:
    """Ask a holder that answers with `status` and `body`; how often it was asked is in `asked`."""
    servers: list[Any] = []
    holders = Holders(
        tls=ssl.create_default_context(cafile=str(authority["ca"])),
        settings=GatewaySettings(delivery_bytes_max=1_000, holder_attempts_max=2, holder_timeout_ms=3_000),
    )
    await holders.open()

    async def fetch(
        status: int, body: bytes, *, asked: list[str] | None = None, scheme: str = "https", **headers: str
    ) -> Delivery:
        async def answer(request: web.Request) -> web.StreamResponse:
            if asked is not None:
                asked.append(request.path)
            return web.Response(status=status, body=body, headers=headers)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority["gateway"], authority["gateway-key"])
        server = TestServer(application, scheme="https")
        await server.start_server(ssl=tls)
        servers.append(server)
        url = str(server.make_url("")).replace("https", scheme)
        return await holders.fetch(describe(url), TICKET, REQUEST)

    yield fetch
    await holders.close()
    for server in servers:
        await server.close()


async def test_well_formed_delivery_comes_back(fetch_from: Fetch) -> None:
    assert await fetch_from(200, encode(GOOD)) == GOOD


@pytest.mark.parametrize("body", [b"", b"\xc1", b"{}", encode(GOOD) + b"x", b"\x91" * 900])
async def test_delivery_out_of_form_is_rejected(fetch_from: Fetch, body: bytes) -> None:
    with pytest.raises(CopyRejected):
        await fetch_from(200, body)


async def test_delivery_beyond_its_bound_is_cut_off(fetch_from: Fetch) -> None:
    with pytest.raises(CopyRejected, match="more than"):
        await fetch_from(200, b"x" * 100_000)


async def test_redirect_is_not_followed(fetch_from: Fetch) -> None:
    asked: list[str] = []
    with pytest.raises(CopyRejected):
        await fetch_from(302, b"", asked=asked, Location="https://127.0.0.1/elsewhere")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "attempts"),
    [
        (404, b"", NotThere, 1),
        (409, b'{"code": "record_altered"}', RecordAlteredThere, 1),
        (409, b"", CopyRejected, 1),
        (500, b"", CopyRejected, 1),
        (503, b"", Unavailable, 2),
        (429, b"", Unavailable, 2),
    ],
)
async def test_refusals_of_a_holder_keep_their_meaning(
    fetch_from: Fetch, status: int, body: bytes, kind: type[Refusal], attempts: int
) -> None:
    asked: list[str] = []
    with pytest.raises(Refusal) as refused:
        await fetch_from(status, body, asked=asked)
    assert type(refused.value) is kind
    assert len(asked) == attempts


async def test_holder_without_tls_is_not_asked(fetch_from: Fetch) -> None:
    asked: list[str] = []
    with pytest.raises(Unavailable, match="not https"):
        await fetch_from(200, encode(GOOD), asked=asked, scheme="http")
    assert asked == []


async def test_holder_of_another_authority_is_not_trusted(authority: dict[str, Path]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=encode(GOOD))

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority["gateway"], authority["gateway-key"])
    server = TestServer(application, scheme="https")
    await server.start_server(ssl=tls)
    holders = Holders(tls=ssl.create_default_context(), settings=GatewaySettings())
    await holders.open()
    try:
        with pytest.raises(Unavailable, match="ClientConnectorCertificateError"):
            await holders.fetch(describe(str(server.make_url(""))), TICKET, REQUEST)
    finally:
        await holders.close()
        await server.close()

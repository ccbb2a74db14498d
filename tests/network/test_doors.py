"""Doors: strangers take no more descriptors than they are given, and silent ones lose their place."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from network.certificates import create_authority, issue_gateway_certificate
from network.doors import Door
from network.tls import build_gateway_client_context, build_gateway_server_context

Open = Callable[..., Awaitable[Door]]
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server's and client's."""
    folder = tmp_path_factory.mktemp("door")
    authority = create_authority("a consortium")
    pair = issue_gateway_certificate(authority, "a gateway")
    for name, data in (
        ("ca.pem", authority.certificate_pem),
        ("certificate.pem", pair.certificate_pem),
        ("key.pem", pair.key_pem),
    ):
        (folder / name).write_bytes(data)
    return (
        build_gateway_server_context(folder / "certificate.pem", folder / "key.pem"),
        build_gateway_client_context(Path(folder / "ca.pem")),
    )


@pytest.fixture
async def open_door(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Open]:
    runners: list[web.AppRunner] = []

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="come in")

    async def start(connections_max: int = 4, silence_ms_max: int = 5_000) -> Door:
        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        door = Door(
            runner,
            host=HOST,
            port=0,
            tls=contexts[0],
            connections_max=connections_max,
            silence_ms_max=silence_ms_max,
        )
        await door.start()
        return door

    yield start
    for runner in runners:
        await runner.cleanup()


@asynccontextmanager
async def connect(door: Door, tls: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that says nothing, of a stranger who does not even begin a handshake, or of a client."""
    reader, writer = await asyncio.open_connection(
        HOST, door.port, ssl=tls, server_hostname="localhost" if tls else None
    )
    try:
        yield reader
    finally:
        writer.transport.abort()


async def reach(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - the door tells nobody
            await asyncio.sleep(0.01)


async def ask(door: Door, tls: ssl.SSLContext) -> str:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, force_close=True)) as session,
        session.get(f"https://localhost:{door.port}/") as response,
    ):
        return await response.text()


async def test_d1_strangers_in_their_handshake_count_and_the_rest_is_turned_away(open_door: Open) -> None:
    door = await open_door(connections_max=4)
    async with connect(door), connect(door), connect(door), connect(door):
        await reach(lambda: door.count == 4)
        for number in range(1, 21):
            async with connect(door) as refused:
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await refused.readexactly(1)
            assert door.turned_away == number
        assert door.count == 4
    await reach(lambda: door.count == 0)


async def test_d1_who_never_ends_a_handshake_or_asks_for_anything_loses_its_place(
    open_door: Open, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    door = await open_door(connections_max=2, silence_ms_max=300)
    async with connect(door), connect(door, contexts[1]) as silent:
        await reach(lambda: door.count == 2)
        await reach(lambda: door.count == 0)
        assert door.silent == 1
        assert await silent.read() == b""
        assert await ask(door, contexts[1]) == "come in"


async def test_who_asks_keeps_the_connection(
    open_door: Open, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    door = await open_door(silence_ms_max=200)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=contexts[1])) as session:
        for _ in range(3):
            async with session.get(f"https://localhost:{door.port}/") as response:
                assert await response.text() == "come in"
            await asyncio.sleep(0.25)
            assert door.count == 1
    assert door.silent == 0


async def test_noise_in_place_of_a_handshake_is_no_concern(open_door: Open) -> None:
    door = await open_door()
    for noise in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(50)):
        _, writer = await asyncio.open_connection(HOST, door.port)
        writer.write(noise)
        await writer.drain()
        await reach(lambda: door.count == 0)
        writer.transport.abort()


async def test_an_address_that_is_taken_is_told(
    open_door: Open, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    door = await open_door()
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    other = Door(runner, host=HOST, port=door.port, tls=contexts[0], connections_max=1, silence_ms_max=100)
    with pytest.raises(OSError, match="in use"):
        await other.start()
    await runner.cleanup()

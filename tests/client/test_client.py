"""The SDK against servers that are absent, foreign or hostile; against real gateways see tests/gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from client import AnswerRejected, Client, NotCommitted, Refused, Unreachable
from client import transport as transport_module
from crypto.key_files import generate_signing_key

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Answer], Awaitable[Client]]]:
    """A client of a server that answers everything with one handler."""
    opened: list[Any] = []

    async def start(answer: Answer) -> Client:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        server = TestServer(application)
        await server.start_server()
        client = Client(str(server.make_url("")), timeout_seconds=5)
        await client.__aenter__()
        opened.append((client, server))
        return client

    yield start
    for client, server in opened:
        await client.__aexit__(None, None, None)
        await server.close()


def answer_with(body: bytes | str, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else body.encode()
        return web.Response(status=status, body=data, content_type="application/json")

    return answer


async def test_absent_gateway_tells_how_to_start_a_network() -> None:
    async with Client("https://127.0.0.1:9") as client:
        with pytest.raises(Unreachable, match="chartchain network up"):
            await client.get_status()


@pytest.mark.parametrize("url", ["http://hospital.example", "ftp://127.0.0.1", "127.0.0.1:8443"])
async def test_plain_http_is_for_loopback_only(url: str) -> None:
    with pytest.raises(Unreachable, match="https expected"):
        await Client(url).__aenter__()


async def test_missing_authority_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(Unreachable, match=r"absent\.pem"):
        await Client("https://127.0.0.1:9", tmp_path / "absent.pem").__aenter__()


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"height": 1}', b"\xff", "[" * 10_000])
async def test_answer_out_of_form_is_rejected(serve: Any, body: bytes | str) -> None:
    client = await serve(answer_with(body))
    with pytest.raises(AnswerRejected):
        await client.get_status()


@pytest.mark.parametrize("body", ["", "{}", "no", "[]", b"\xff", "[" * 100_000])
async def test_refusal_without_an_explanation_is_told_by_its_status(serve: Any, body: bytes | str) -> None:
    client = await serve(answer_with(body, status=503))
    with pytest.raises(Refused) as refused:
        await client.get_status()
    assert (refused.value.status, refused.value.code) == (503, "status_503")


async def test_redirect_is_not_followed(serve: Any) -> None:
    followed = []

    async def answer(request: web.Request) -> web.StreamResponse:
        followed.append(request.path)
        raise web.HTTPFound("/elsewhere")

    client = await serve(answer)
    with pytest.raises(Refused) as refused:
        await client.get_status()
    assert refused.value.status == 302
    assert followed == ["/v1/status"]


async def test_endless_answer_is_cut_off(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "ANSWER_BYTES_MAX", 100_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" " * 65_536)
        return response

    client = await serve(answer)
    with pytest.raises(AnswerRejected, match="more than 100000 bytes"):
        await client.get_status()


EVENT = '{"height":1,"transaction":"%s","number":0,"contract":"evidence","name":"anchored","fields":["%s"]}'


async def test_a_long_event_is_read_whole(serve: Any) -> None:
    client = await serve(answer_with("data: " + EVENT % ("0" * 64, "x" * 200_000) + "\n\n"))
    (event,) = [event async for event in client.events()]
    assert event.fields == ("x" * 200_000,)


async def test_an_endless_event_is_rejected(serve: Any) -> None:
    client = await serve(answer_with("data: " + "x" * 300_000))
    with pytest.raises(AnswerRejected, match="a line of more than"):
        _ = [event async for event in client.events()]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"[1]"])
async def test_a_description_out_of_form_is_rejected(serve: Any, body: bytes) -> None:
    client = await serve(answer_with(body))
    with pytest.raises(AnswerRejected, match=r"openapi\.json"):
        await client.get_openapi()


async def test_challenge_for_another_audience_is_not_signed(serve: Any) -> None:
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response(
            {"challenge": "ab" * 32, "audience": "https://other.example", "expires_ms": 1}
        )

    client = await serve(answer)
    with pytest.raises(AnswerRejected, match="audience"):
        await client.login(generate_signing_key(), "ab" * 16)
    assert asked == ["/v1/login/challenge"]


@pytest.mark.parametrize("end", ["failed", "expired", "pending", "unknown"])
async def test_waiting_for_what_does_not_commit_ends_with_the_reason(serve: Any, end: str) -> None:
    client = await serve(answer_with(json.dumps({"id": "ab" * 32, "end": end, "code": "why"})))
    with pytest.raises(NotCommitted) as ended:
        await client.wait_for_receipt("ab" * 32, timeout_ms=50)
    assert (ended.value.end, ended.value.code) == (end, "why")


async def test_closed_client_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client("https://127.0.0.1:9").get_status()

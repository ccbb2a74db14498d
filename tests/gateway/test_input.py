"""Bad input: whatever a client sends, the answer is a problem with a code, never 500."""

from __future__ import annotations

import asyncio
import gzip
import io
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest

from client.models import ReadRequest
from gateway.bodies import BODY_ROOM
from gateway.errors import BadRequest
from gateway.settings import GatewaySettings
from gateway.strict_json import check_json, read_model

CHALLENGE = "/v1/login/challenge"
SUBJECT = '"' + "ab" * 16 + '"'


async def post(consortium: Any, data: bytes | str, **headers: str) -> tuple[int, Any]:
    result: tuple[int, Any] = await consortium.request(
        "POST",
        consortium.east,
        CHALLENGE,
        data=io.BytesIO(data if isinstance(data, bytes) else data.encode()),
        headers={"Content-Type": "application/json"} | headers,
    )
    return result


BAD_JSON: tuple[tuple[bytes | str, str], ...] = (
    ("", "bad_json"),
    ("{", "bad_json"),
    (f'{{"subject": {SUBJECT}}} x', "bad_json"),
    (b"\xff\xfe{}", "bad_json"),
    (b'{"subject": "\xff"}', "bad_json"),
    (f'{{"subject": {SUBJECT}, "subject": {SUBJECT}}}', "duplicate_key"),
    (f'{{"subject": {SUBJECT}, "more": NaN}}', "bad_number"),
    (f'{{"subject": {SUBJECT}, "more": -Infinity}}', "bad_number"),
    (f'{{"subject": {SUBJECT}, "more": 1e999}}', "bad_number"),
    (f'{{"subject": {SUBJECT}, "more": {"9" * 5_000}}}', "bad_number"),
    ("[" * 100_000 + "]" * 100_000, "too_deep"),
    ('{"a":' * 50_000, "too_deep"),
    (f'{{"subject": {SUBJECT}, "more": 1}}', "bad_field"),
    ("{}", "bad_field"),
    ("null", "bad_field"),
    ('{"subject": 1}', "bad_field"),
    ('{"subject": "' + "AB" * 16 + '"}', "bad_field"),
    ('{"subject": "' + "ab" * 16 + '\\n"}', "bad_field"),
    ('{"subject": "\\ud800"}', "bad_field"),
)


async def test_json_that_is_not_plain_is_refused_with_its_code(consortium: Any) -> None:
    for data, code in BAD_JSON:
        status, problem = await post(consortium, data)
        assert (status, problem["code"]) == (400, code), data[:80]
        assert problem["what_to_do"]


@pytest.mark.parametrize("body", [b'{"more": NaN}', b"[" * 100_000, b"x" * 2_000_000])
async def test_body_where_none_is_expected_is_refused(consortium: Any, body: bytes) -> None:
    client = await consortium.login(consortium.east)
    for method, path in (
        ("POST", "/v1/logout"),
        ("DELETE", f"/v1/grants/{'ab' * 16}"),
        ("GET", "/v1/status"),
    ):
        status, problem = await consortium.request(
            method, consortium.east, path, client=client, data=io.BytesIO(body)
        )
        assert (status, problem["code"]) == (400, "unexpected_body"), path
    assert (await consortium.request("POST", consortium.east, "/v1/logout", client=client))[0] == 204


def test_faults_of_a_list_are_told_once_and_in_words() -> None:
    def describe(classes: str) -> str:
        with pytest.raises(BadRequest) as refused:
            read_model(ReadRequest, f'{{"alias": {SUBJECT}, "classes": {classes}, "reason": "x"}}'.encode())
        return refused.value.message

    assert "0 items found, at least 1 expected" in describe("[]")
    assert "gossip" not in describe('["gossip"]')
    assert describe('["gossip"]').count("classes") == 1
    assert "Tuple" not in describe("[]") + describe('["gossip"]')


async def test_answer_to_bad_input_repeats_none_of_its_values(consortium: Any) -> None:
    _, problem = await post(consortium, '{"subject": "canary-7731"}')
    assert "canary-7731" not in str(problem)


async def test_body_beyond_its_limit_is_refused_unread(consortium: Any) -> None:
    status, problem = await post(consortium, b" " * 1_048_577)
    assert (status, problem["code"]) == (413, "too_large")


async def test_chunked_body_beyond_its_limit_is_refused(consortium: Any) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    status, problem = await consortium.request(
        "POST", consortium.east, CHALLENGE, data=chunks(), headers={"Content-Type": "application/json"}
    )
    assert (status, problem["code"]) == (413, "too_large")


async def test_compressed_body_is_refused_and_not_inflated(consortium: Any) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    status, problem = await post(consortium, bomb, **{"Content-Encoding": "gzip"})
    assert (status, problem["code"]) == (415, "compressed_body")


async def test_other_content_types_are_refused(consortium: Any) -> None:
    for content_type in ("text/plain", "application/xml", "multipart/form-data; boundary=x"):
        status, problem = await post(consortium, "{}", **{"Content-Type": content_type})
        assert (status, problem["code"]) == (415, "wrong_media_type")


async def test_bad_paths_and_parameters_are_problems(consortium: Any) -> None:
    transaction = "/v1/transactions/" + "ab" * 32
    for method, path, status in (
        ("GET", "/v1/nowhere", 404),
        ("PUT", "/v1/status", 405),
        ("GET", "/v1/status?x=1", 400),
        ("GET", "/v1/transactions/zz", 400),
        ("GET", "/v1/transactions/" + "AB" * 32, 400),
        ("GET", transaction + "?wait_ms=-1", 400),
        ("GET", transaction + "?wait_ms=1e3", 400),
        ("GET", transaction + "?wait_ms=" + "9" * 5_000, 400),
        ("GET", transaction + "?wait_ms=1&wait_ms=2", 400),
        ("GET", transaction + "?wait_ms=%C2%B2", 400),
    ):
        found, problem = await consortium.request(method, consortium.east, path)
        assert found == status, path[:80]
        assert problem["code"]


async def test_path_traversal_reaches_nothing(consortium: Any) -> None:
    officer = await consortium.login(consortium.east)
    for alias in (
        "..",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "a" * 31,
        "0" * 33,
        "ab" * 15 + "%00",
        "ａ" * 32,
    ):
        found, _ = await consortium.request("GET", consortium.east, f"/v1/folders/{alias}", client=officer)
        assert found in (400, 404), alias


async def talk(url: str, text: str) -> bytes:
    """Send bytes as they are, over TLS, and read what comes back."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    writer.write(text.encode())
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(65_536), 5)
    finally:
        writer.close()


async def test_content_length_with_transfer_encoding_is_refused_and_closed(consortium: Any) -> None:
    answer = await talk(
        consortium.east.url,
        "POST /v1/login/challenge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.0 400")
    assert answer.count(b"HTTP/1.") == 1


def test_depth_is_counted_outside_of_strings_only() -> None:
    check_json(b'{"a": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\"[[[["}')
    check_json(b"[" * 32 + b"]" * 32)
    with pytest.raises(BadRequest):
        check_json(b"[" * 33 + b"]" * 33)


class TestRates:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(requests_per_second_max=1, requests_burst=5, logins_per_minute_max=2)

    async def test_client_beyond_its_rate_is_told_when_to_come_back(self, consortium: Any) -> None:
        found = []
        for _ in range(8):
            async with consortium.session.get(consortium.east.url + "/v1/status") as response:
                found.append((response.status, response.headers.get("Retry-After")))
        assert (200, None) in found
        assert found[-1] == (429, "1")
        assert (await consortium.request("GET", consortium.east, "/healthz"))[0] == 200

    async def test_logins_are_limited_on_their_own(self, consortium: Any) -> None:
        found = [(await post(consortium, f'{{"subject": {SUBJECT}}}'))[0] for _ in range(3)]
        assert found == [200, 200, 429]


class TestSlowBody:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(body_timeout_ms=100)

    async def test_body_that_does_not_come_is_not_waited_for(self, consortium: Any) -> None:
        answer = await talk(
            consortium.east.url,
            "POST /v1/login/challenge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 50\r\n\r\n{",
        )
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"too_slow" in answer


async def test_bodies_of_all_requests_together_are_bounded(consortium: Any) -> None:
    application = consortium.east.runner.app
    room = application[BODY_ROOM]
    room.taken = GatewaySettings().bodies_bytes_max - 10  # As if so much were being read for others.
    status, problem = await post(consortium, f'{{"subject": {SUBJECT}}}')
    assert (status, problem["code"]) == (503, "too_many_bodies")
    room.taken = 0
    for _ in range(3):
        assert (await post(consortium, f'{{"subject": {SUBJECT}}}'))[0] == 200
        assert (await post(consortium, "{"))[0] == 400
    assert room.taken == 0


def test_there_must_be_room_for_the_largest_body() -> None:
    with pytest.raises(ValueError, match="bodies_bytes_max"):
        GatewaySettings(bodies_bytes_max=1_000)

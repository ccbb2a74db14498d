"""Whatever is asked of any route, the answer is one that it may give: never 500, and nothing stays behind."""

from __future__ import annotations

import io
import json
from random import Random
from typing import Any, Final

import pytest

from gateway.bodies import BODY_ROOM
from tests.fuzz.document_targets import REQUESTS, dump
from tests.fuzz.mutations import JSON, mutate

HEXADECIMAL: Final = (
    "ab" * 16,
    "ab" * 32,
    "ab" * 41,
    "00" * 16,
    "AB" * 16,
    "zz" * 16,
    "ab",
    "%00",
    "..%2f..",
    "é",
)
NUMBERS: Final = ("0", "1", "-1", "99999999999999999999", "18446744073709551616", "1e3", "٣", "", "0x10")
VALUES: Final = (*HEXADECIMAL, *NUMBERS, "true", "false", "\x00", "a" * 5_000, "<script>", "%ff")
TYPES: Final = (
    "application/json",
    "application/msgpack",
    "text/plain",
    "application/fhir+json",
    "x" * 300,
    "",
)
NAMES: Final = ("wait_ms", "min_height", "alias", "open", "key", "x", "classes", "until_height")


def make_request(
    random: Random, operations: list[tuple[str, str]]
) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Method, path with query, body and headers of a request that may be right in none of them."""
    method, path = random.choice(operations)
    if random.random() < 0.05:
        method = random.choice(("PUT", "PATCH", "OPTIONS", "HEAD"))
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        value = random.choice(HEXADECIMAL if random.random() < 0.7 else NUMBERS)
        path = path[:start] + value + path[end + 1 :]
    if random.random() < 0.4:
        pairs = [f"{random.choice(NAMES)}={random.choice(VALUES)}" for _ in range(random.randint(1, 3))]
        path += "?" + "&".join(
            pair.replace("\x00", "%00").replace("<", "%3C").replace(">", "%3E") for pair in pairs
        )
    headers = {"Content-Type": TYPES[0] if random.random() < 0.7 else random.choice(TYPES)}
    if random.random() < 0.1:
        headers[random.choice(("Authorization", "Last-Event-ID", "Content-Encoding", "If-None-Match"))] = (
            "x" * 40
        )
    if method in ("GET", "HEAD") and random.random() < 0.9:
        return method, path, None, headers
    body = mutate(random, dump(random.choice(list(REQUESTS.values()))), JSON)
    return method, path, body[:200_000], headers


@pytest.mark.parametrize("role", ["nobody", "officer"])
async def test_no_request_is_answered_by_500_or_leaves_anything_behind(consortium: Any, role: str) -> None:
    random, house = Random(role), consortium.east
    client = await consortium.login(house) if role == "officer" else None
    _, document = await consortium.request("GET", house, "/openapi.json")
    operations = [
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if path not in ("/v1/events", "/v1/logout")
    ]
    assert len(operations) > 20
    seen: set[int] = set()
    for _ in range(250):
        method, path, body, headers = make_request(random, operations)
        status, answer = await consortium.request(
            method,
            house,
            path,
            client=client,
            data=None if body is None else io.BytesIO(body),
            headers=headers,
        )
        seen.add(status)
        assert status != 500, (method, path, headers, body)
        if status >= 400 and method != "HEAD" and isinstance(answer, dict):
            assert answer["code"], json.dumps(answer)
    assert seen & {400, 404, 415}
    assert not house.halted
    assert house.runner.app[BODY_ROOM].taken == 0

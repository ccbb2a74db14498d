"""A hundred clients that ask for more than there is: refusals with a reason, bounds kept, commits go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import aiohttp
import pytest

from contracts.calls.registry import RegisterMember
from gateway.settings import GatewaySettings
from ledger.transaction import encode_transaction

CLIENTS = 100
REFUSALS = {"too_many_requests", "too_many_waits", "too_many_streams", "too_many_bodies"}


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(
        sockets_max=60,
        connections_max=20,
        waits_max=5,
        event_clients_max=3,
        requests_per_second_max=10_000,
        requests_burst=10_000,
        json_bytes_max=10_000,
        bulk_bytes_max=10_000,
        bundle_bytes_max=10_000,
        bodies_bytes_max=20_000,
    )


async def ask(consortium: Any, session: aiohttp.ClientSession, number: int, codes: Counter[str]) -> None:
    """One client: an end that never comes, a stream, or a body as large as allowed; again and again."""
    house, token = consortium.east, consortium.clients[0]._transport.access_token
    headers = {"Authorization": f"Bearer {token}"}
    for turn in range(3):
        match (number + turn) % 3:
            case 0:
                call = session.get(f"{house.url}/v1/transactions/{'ab' * 32}?wait_ms=300", headers=headers)
            case 1:
                call = session.get(f"{house.url}/v1/events", headers=headers)
            case _:
                call = session.post(f"{house.url}/v1/login/challenge", json={"subject": "a" * 9_000})
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(1), call as response:
                problem = await response.json() if response.status >= 400 else {}
                codes[problem.get("code", "answered")] += 1
                assert response.status < 500 or problem["code"] in REFUSALS, problem


@pytest.mark.slow
async def test_d1_a_hundred_clients_beyond_every_bound_do_not_stop_commits(consortium: Any) -> None:
    officer = await consortium.login(consortium.east)
    signer, west = consortium.sign(consortium.east), await consortium.login(consortium.west)
    codes: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(ssl=officer._transport._get_session().connector._ssl, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        flood = [asyncio.create_task(ask(consortium, session, number, codes)) for number in range(CLIENTS)]
        height = consortium.west.chain.head.height
        for number in range(10):
            call = RegisterMember(bytes((number,)) * 16, "clinician", bytes(32))
            (result,) = await west.submit([encode_transaction(signer.sign(call))])
            assert result.code == "accepted"
        await asyncio.gather(*flood)
    assert consortium.west.chain.head.height >= height + 10
    assert consortium.east.chain.head.height == consortium.west.chain.head.height
    assert set(codes) & REFUSALS
    assert set(codes) <= REFUSALS | {"answered", "bad_field", "not_found"}, codes
    # Nothing of it stays: the next client finds everything free again.
    await asyncio.sleep(0.2)
    assert (await officer.get_status()).height == height + 10
    assert not consortium.east.halted

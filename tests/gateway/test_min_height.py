"""Reads take `min_height`: they wait for the head that the client knows of, or are refused, never stale."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client import Refused
from gateway.settings import GatewaySettings


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(wait_ms_max=150, waits_max=2)


async def test_a_read_waits_until_the_head_is_high_enough(consortium: Any) -> None:
    client = await consortium.login(consortium.east)
    height = consortium.east.chain.head.height
    assert (await client.get_block(height, min_height=height)).height == height
    asking = asyncio.create_task(client.get_block(height + 1, min_height=height + 1))
    await asyncio.sleep(0.03)
    assert not asking.done()
    consortium.orderer.commit()
    assert (await asking).height == height + 1


async def test_a_head_that_does_not_come_in_time_is_told_with_a_code(consortium: Any) -> None:
    client = await consortium.login(consortium.east)
    wanted = consortium.east.chain.head.height + 1
    with pytest.raises(Refused, match=f"a head at height {wanted} asked for, height {wanted - 1} found") as e:
        await client.list_institutions(min_height=wanted)
    assert (e.value.status, e.value.code) == (503, "height_not_reached")


async def test_waiting_reads_are_bounded(consortium: Any) -> None:
    client = await consortium.login(consortium.east)
    wanted = consortium.east.chain.head.height + 1
    asking = [client.list_institutions(min_height=wanted) for _ in range(3)]
    refusals = await asyncio.gather(*asking, return_exceptions=True)
    codes = {refusal.code for refusal in refusals if isinstance(refusal, Refused)}
    assert codes == {"height_not_reached", "too_many_waits"}


async def test_every_read_of_the_head_takes_it_and_nothing_else_does(consortium: Any) -> None:
    document = await (await consortium.open(consortium.east)).get_openapi()
    taking = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if any(parameter["name"] == "min_height" for parameter in operation["parameters"])
    }
    assert taking >= {("get", "/v1/state/proof"), ("get", "/v1/grants"), ("get", "/v1/blocks/{height}")}
    assert {method for method, _ in taking} == {"get"}
    client = await consortium.login(consortium.watch)
    wanted = consortium.east.chain.head.height + 1
    for _, path in sorted(taking):
        filled = path.replace("{height}", "1").replace("{id}", "00" * 32).replace("{alias}", "00" * 16)
        headers = {"Authorization": f"Bearer {client._transport.access_token}"}
        status, answer = await consortium.request(
            "GET", consortium.watch, f"{filled}?min_height={wanted}", headers=headers
        )
        assert (status, answer["code"]) == (503, "height_not_reached"), path
    status, answer = await consortium.request("GET", consortium.east, "/v1/status?min_height=1")
    assert (status, answer["code"]) == (400, "unknown_parameter")


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "99999999999999999999"])
async def test_a_min_height_that_is_no_height_is_refused(consortium: Any, text: str) -> None:
    status, answer = await consortium.request("GET", consortium.east, f"/v1/institutions?min_height={text}")
    assert (status, answer["code"]) == (400, "bad_parameter")


async def test_a_proof_after_a_revocation_shows_it_at_every_gateway(consortium: Any, kit: Any) -> None:
    """The height in the answer to a revocation is what another gateway's proof must reach."""
    east, watch = await consortium.login(consortium.east), await consortium.login(consortium.watch)
    patient = await consortium.add_patient(consortium.east)
    reader = consortium.west.id
    grant = await east.create_grant(kit.build_grant(patient.alias, reader, "allergies"))
    revoked = await east.revoke_grant(grant.grant)
    entries = await watch.list_grants(patient.alias, min_height=revoked.height)
    assert [entry.state for entry in entries] == ["revoked"]
    assert await watch.get_grant_proof(patient.alias, institution=reader, min_height=revoked.height)

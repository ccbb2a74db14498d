"""A node that has pruned says so; one that has no ledger yet says that it lives and why it is not ready."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from client.errors import Refused
from contracts.calls.registry import RegisterMember
from gateway.waiting import build_waiting_gateway
from ledger.pacing import Pacer
from ledger.proofs import decode_proof, verify_proof


async def commit_members(consortium: Any, *members: bytes) -> list[str]:
    """Blocks with one transaction each; their ids."""
    client, signer, ids = await consortium.open(consortium.east), consortium.sign(consortium.east), []
    for member in members:
        transaction = signer.sign(RegisterMember(member * 16, "clerk", b"e" * 32))
        await client.submit_and_wait(transaction)
        ids.append(transaction.transaction_id.hex())
    return ids


async def test_blocks_that_are_pruned_answer_410_and_what_to_do(consortium: Any) -> None:
    ids = await commit_members(consortium, b"a", b"b", b"c", b"d", b"e", b"f")
    officer, chain = await consortium.login(consortium.east), consortium.east.chain
    kept = await officer.get_receipt_proof(ids[0])
    base = chain.get_receipt(bytes.fromhex(ids[3])).height
    chain.prune(base, Pacer(rest_seconds=0))
    await commit_members(consortium, b"g")  # What was deleted is seen from the next block on.
    status, problem = await consortium.request("GET", consortium.east, "/v1/blocks/1", client=officer)
    assert (status, problem["code"]) == (410, "pruned")
    assert str(base) in problem["message"]
    assert "keeps all blocks" in problem["what_to_do"]
    assert (await officer.get_block(base)).height == base
    status, problem = await consortium.request(
        "GET", consortium.east, "/v1/events", client=officer, headers={"Last-Event-ID": "0"}
    )
    assert (status, problem["code"]) == (410, "pruned")
    with pytest.raises(Refused) as refused:
        await officer.get_receipt_proof(ids[0])
    assert refused.value.status == 404
    assert "keeps all blocks" in str(refused.value)
    assert await officer.get_receipt_proof(ids[4])
    assert verify_proof(decode_proof(kept), chain.chain_id)  # What was fetched before is as good as ever.


async def test_a_node_without_a_ledger_lives_and_says_why_it_is_not_ready() -> None:
    application = build_waiting_gateway(lambda: "joining: 3 of 9 parts")
    async with TestClient(TestServer(application)) as client:
        health = await client.get("/healthz")
        assert (health.status, await health.json()) == (200, {"status": "alive"})
        ready = await client.get("/readyz")
        assert (ready.status, await ready.json()) == (
            503,
            {"ready": False, "reason": "joining: 3 of 9 parts"},
        )
        for method, path in (("GET", "/v1/status"), ("POST", "/v1/transactions"), ("DELETE", "/")):
            answer = await client.request(method, path)
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (503, "not_ready")
            assert problem["message"] == "joining: 3 of 9 parts"
            assert answer.headers["Retry-After"] == "5"

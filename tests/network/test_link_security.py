"""Who may open a link: exactly the replica that the certificate's key belongs to, over TLS 1.3."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from network.certificates import create_authority, issue_gateway_certificate, issue_node_certificate
from network.tls import LinkTls

GREETING = {
    "Chartchain-Protocol": "1",
    "Chartchain-Chain": (b"c" * 32).hex(),
    "Chartchain-Replica": "0",
}


async def knock(port: int, context: ssl.SSLContext | None, headers: dict[str, str]) -> int:
    """The HTTP status that the door answers; raises what TLS refuses."""
    connector = aiohttp.TCPConnector(ssl=context if context is not None else False)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(
            f"https://127.0.0.1:{port}/link",
            headers={
                **headers,
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        ) as response,
    ):
        return response.status


async def test_a_member_with_its_own_certificate_is_let_in(consortium: Any, start_links: Any) -> None:
    links, _ = await start_links(1)
    assert await knock(links.listen_port, consortium.load_tls(0).client_context, GREETING) == 101


async def test_a_certificate_of_another_authority_is_refused(consortium: Any, start_links: Any) -> None:
    links, inbox = await start_links(1)
    stranger = create_authority("another consortium")
    certificate = issue_node_certificate(stranger, consortium.keys[0], "node-0")
    tls = consortium.load_tls(0, certificate=certificate)
    with pytest.raises(aiohttp.ClientError):
        await knock(links.listen_port, tls.client_context, GREETING)
    assert not inbox.connected


async def test_an_expired_certificate_is_refused(consortium: Any, start_links: Any) -> None:
    links, inbox = await start_links(1)
    certificate = issue_node_certificate(
        consortium.authority,
        consortium.keys[0],
        "node-0",
        valid_from=datetime.now(UTC) - timedelta(days=20),
        valid_days=10,
    )
    tls = consortium.load_tls(0, certificate=certificate)
    with pytest.raises(aiohttp.ClientError):
        await knock(links.listen_port, tls.client_context, GREETING)
    assert not inbox.connected


async def test_a_valid_certificate_with_another_nodes_id_is_refused(
    consortium: Any, start_links: Any
) -> None:
    links, inbox = await start_links(1)
    context = consortium.load_tls(2).client_context
    assert await knock(links.listen_port, context, GREETING) == 403
    assert links.refused.counts["certificate"] == 1
    assert not inbox.connected


async def test_no_certificate_is_refused(consortium: Any, start_links: Any) -> None:
    links, _ = await start_links(1)
    with pytest.raises(aiohttp.ClientError):
        await knock(links.listen_port, None, GREETING)


async def test_a_gateways_certificate_opens_no_link(
    consortium: Any, start_links: Any, tmp_path: Path
) -> None:
    links, inbox = await start_links(1)
    pair = issue_gateway_certificate(consortium.authority, "a gateway")
    (tmp_path / "cert").write_bytes(pair.certificate_pem)
    (tmp_path / "key").write_bytes(pair.key_pem)
    tls = LinkTls.load(
        ca_file=consortium.ca_file, certificate_file=tmp_path / "cert", key_file=tmp_path / "key"
    )
    with pytest.raises(aiohttp.ClientError):
        await knock(links.listen_port, tls.client_context, GREETING)
    assert not inbox.connected


async def test_tls_1_2_is_refused(consortium: Any, start_links: Any) -> None:
    links, inbox = await start_links(1)
    context = consortium.load_tls(0).client_context
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        await knock(links.listen_port, context, GREETING)
    assert not inbox.connected


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Chartchain-Chain": "00" * 32}, 409),
        ({"Chartchain-Protocol": "2"}, 426),
        ({"Chartchain-Replica": "9"}, 403),
        ({"Chartchain-Replica": "²"}, 426),
        ({"Chartchain-Replica": "-0"}, 403),
        ({"Chartchain-Replica": "1" * 5_000}, 403),
        ({"Chartchain-Replica": ""}, 403),
    ],
)
async def test_a_greeting_that_does_not_fit_is_refused(
    consortium: Any, start_links: Any, change: dict[str, str], status: int
) -> None:
    links, inbox = await start_links(1)
    context = consortium.load_tls(0).client_context
    assert await knock(links.listen_port, context, {**GREETING, **change}) == status
    assert not inbox.connected


async def test_the_dialler_refuses_a_node_that_is_not_the_one_it_dialled(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    # Replica 3's certificate and key at the address of replica 1: another node pretends to be it.
    await start_links(1, tls=consortium.load_tls(3))
    links, inbox = await start_links(0)
    await wait_for(lambda: links.refused.counts["certificate"])
    assert links.connected == ()
    assert not inbox.connected


async def test_a_silent_stranger_does_not_keep_the_door_busy(start_links: Any, wait_for: Any) -> None:
    links, _ = await start_links(1)
    _, writer = await asyncio.open_connection("127.0.0.1", links.listen_port)
    dialler, _ = await start_links(0)
    await wait_for(lambda: dialler.connected == (1,))
    writer.close()

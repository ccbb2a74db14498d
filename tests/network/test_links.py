"""Links: what goes in at one node comes out at the other, votes first, and garbage ends the link."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import structlog.testing

from consensus.replica_set import ReplicaId, ReplicaSet
from network.frames import Channel, decode_frame, encode_frame
from network.link_ports import KnownNode
from network.requests import BadRequest, RequestFailed, RequestKind

ZERO, ONE = ReplicaId(0), ReplicaId(1)


async def test_a_message_to_one_peer_arrives_with_its_sender(start_links: Any, wait_for: Any) -> None:
    accepting, inbox_1 = await start_links(1)
    dialling, inbox_0 = await start_links(0)
    await wait_for(lambda: dialling.connected and accepting.connected)
    dialling.send(ONE, b"from zero")
    accepting.send(ZERO, b"from one")
    await wait_for(lambda: inbox_0.consensus and inbox_1.consensus)
    assert inbox_1.consensus == [(0, b"from zero")]
    assert inbox_0.consensus == [(1, b"from one")]


async def test_a_broadcast_reaches_every_peer_once(start_links: Any, wait_for: Any) -> None:
    nodes = [await start_links(replica) for replica in (3, 2, 1, 0)]
    for links, _ in nodes:
        await wait_for(lambda links=links: len(links.connected) == 3)
    nodes[0][0].broadcast(b"vote")
    nodes[0][0].broadcast_transactions([b"a", b"b"])
    for _, inbox in nodes[1:]:
        await wait_for(lambda inbox=inbox: inbox.consensus and inbox.transactions)
        assert inbox.consensus == [(3, b"vote")]
        assert inbox.transactions == [(3, [b"a", b"b"])]
    assert nodes[0][1].consensus == []


async def test_votes_go_ahead_of_transactions_that_were_sent_before(start_links: Any, wait_for: Any) -> None:
    order: list[str] = []
    accepting, inbox = await start_links(1)
    dialling, _ = await start_links(0)
    await wait_for(lambda: dialling.connected and accepting.connected)
    inbox.consensus = _Recorder(order, "vote")
    inbox.transactions = _Recorder(order, "transactions")
    inbox.oldest = _Recorder(order, "oldest")
    dialling.broadcast_transactions([b"t"])
    dialling.send_oldest(ONE, b"o")
    dialling.send_oldest(ReplicaId(9), b"nobody's")
    dialling.send(ONE, b"v1")
    dialling.send(ONE, b"v2")
    await wait_for(lambda: len(order) == 4)
    assert order == ["vote", "vote", "oldest", "transactions"]


class _Recorder(list[Any]):
    def __init__(self, order: list[str], name: str) -> None:
        super().__init__()
        self._order, self._name = order, name

    def append(self, item: Any) -> None:
        self._order.append(self._name)


async def test_a_node_that_comes_back_is_connected_again(start_links: Any, wait_for: Any) -> None:
    accepting, _ = await start_links(1)
    dialling, inbox = await start_links(0)
    await wait_for(lambda: dialling.connected)
    port = accepting.listen_port
    await accepting.close()
    await wait_for(lambda: not dialling.connected)
    dialling.send(ONE, b"lost")
    assert dialling.counters[ONE].unsent == 1
    back, _ = await start_links(1, port=port)
    await wait_for(lambda: dialling.connected and back.connected)
    assert inbox.connected == [1, 1]
    assert dialling.counters[ONE].links_opened == 2


async def test_what_waited_for_a_dead_link_is_not_sent_over_the_next(start_links: Any, wait_for: Any) -> None:
    accepting, _ = await start_links(1)
    dialling, _ = await start_links(0)
    await wait_for(lambda: dialling.connected)
    port = accepting.listen_port
    await accepting.close()
    dialling.send(ONE, b"stale")
    await wait_for(lambda: not dialling.connected)
    back, inbox = await start_links(1, port=port)
    await wait_for(lambda: back.connected and dialling.connected)
    dialling.send(ONE, b"fresh")
    await wait_for(lambda: inbox.consensus)
    assert inbox.consensus == [(0, b"fresh")]


@contextlib.asynccontextmanager
async def open_raw(consortium: Any, port: int) -> AsyncIterator[Any]:
    """A link as replica 0, spoken by hand."""
    greeting = {
        "Chartchain-Protocol": "1",
        "Chartchain-Chain": (b"c" * 32).hex(),
        "Chartchain-Replica": "0",
    }
    connector = aiohttp.TCPConnector(ssl=consortium.load_tls(0).client_context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(
            f"https://127.0.0.1:{port}/link", headers=greeting, timeout=aiohttp.ClientWSTimeout(ws_close=0.2)
        ) as raw,
    ):
        yield raw


GARBAGE = {
    "no msgpack": b"\xc1",
    "empty": b"",
    "no frame": b"\x92\x00\xa1a",
    "unknown channel": b"\x92\x09\x91\xc4\x01a",
    "no messages": b"\x92\x00\x90",
    "text for bytes": b"\x92\x00\x91\xa1a",
    "too deep": b"\x91" * 100_000,
    "a length that lies": b"\x92\x00\xdd\xff\xff\xff\xff",
    "too many messages": encode_frame(Channel.CONSENSUS, [b""] * 5_000),
    "too large": encode_frame(Channel.CONSENSUS, [bytes(300_000)]),
    "two that are oldest": encode_frame(Channel.OLDEST, [b"", b""]),
    "no request": encode_frame(Channel.REQUEST, [b"garbage"]),
    "no answer": encode_frame(Channel.ANSWER, [b"garbage"]),
    "a request that makes no sense": encode_frame(Channel.REQUEST, [b"\x93\x01\x01\xc4\x00"]),
}


@pytest.mark.parametrize("name", sorted(GARBAGE))
async def test_garbage_ends_the_link_and_is_counted(
    consortium: Any, start_links: Any, wait_for: Any, name: str
) -> None:
    links, inbox = await start_links(1)

    def refuse(replica: ReplicaId, payload: bytes) -> bytes:
        raise BadRequest("no sense")

    links.serve(RequestKind.BODIES, refuse)
    async with open_raw(consortium, links.listen_port) as raw:
        await raw.send_bytes(GARBAGE[name])
        async with asyncio.timeout(30):
            await skip_greeting(raw)
            assert (await raw.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        await wait_for(lambda: not links.connected)
        assert links.counters[ZERO].cuts == 1
        assert inbox.consensus == []


async def test_text_ends_the_link(consortium: Any, start_links: Any, wait_for: Any) -> None:
    links, _ = await start_links(1)
    async with open_raw(consortium, links.listen_port) as raw:
        await raw.send_str("hello")
        await wait_for(lambda: links.counters[ZERO].cuts)


async def test_a_peer_that_was_cut_off_stays_away_a_while_and_may_return(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    now_ms = 0
    links, _ = await start_links(1, clock_ms=lambda: now_ms)
    async with open_raw(consortium, links.listen_port) as raw:
        await raw.send_bytes(b"garbage")
        await wait_for(lambda: not links.connected)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_raw(consortium, links.listen_port):
            pass
    assert refused.value.status == 403
    assert links.refused.counts["banned"] == 1
    now_ms = 200
    async with open_raw(consortium, links.listen_port):
        await wait_for(lambda: links.connected)
    assert links.counters[ZERO].links_opened == 2


async def test_penalties_add_up_to_a_cut(start_links: Any, wait_for: Any, fast: Any) -> None:
    accepting, _ = await start_links(1, settings=dataclasses.replace(fast, penalties_max=3))
    await start_links(0)
    await wait_for(lambda: accepting.connected)
    for _ in range(2):
        accepting.penalise(ZERO, "a message that no honest replica sends")
    assert accepting.connected == (0,)
    accepting.penalise(ZERO, "a message that no honest replica sends")
    await wait_for(lambda: not accepting.connected)
    await wait_for(lambda: accepting.connected == (0,))
    assert accepting.counters[ZERO].cuts == 1


async def skip_greeting(raw: aiohttp.ClientWebSocketResponse) -> None:
    assert decode_frame((await raw.receive()).data).channel is Channel.GREETING


async def test_a_new_link_replaces_the_one_before(consortium: Any, start_links: Any, wait_for: Any) -> None:
    links, inbox = await start_links(1)
    async with (
        open_raw(consortium, links.listen_port) as first,
        open_raw(consortium, links.listen_port) as second,
    ):
        await wait_for(lambda: inbox.connected == [0, 0])
        await skip_greeting(first)
        await skip_greeting(second)
        assert (await first.receive()).type is aiohttp.WSMsgType.CLOSE
        links.send(ZERO, b"to the second")
        links.send(ZERO, b"and again")
        message = await second.receive()
        assert message.data == encode_frame(Channel.CONSENSUS, [b"to the second", b"and again"])
        assert links.connected == (0,)


async def test_a_request_is_answered(start_links: Any, wait_for: Any) -> None:
    accepting, _ = await start_links(1)
    dialling, _ = await start_links(0)
    accepting.serve(RequestKind.BODIES, lambda replica, payload: bytes([replica]) + payload)
    await wait_for(lambda: dialling.connected)
    assert await dialling.request(ONE, RequestKind.BODIES, b"x", 1_000) == b"\x00x"
    assert await dialling.request(ONE, RequestKind.BLOCKS, b"nobody serves this", 1_000) is None


async def test_a_request_to_a_peer_without_a_link_fails_at_once(start_links: Any) -> None:
    links, _ = await start_links(0)
    with pytest.raises(RequestFailed, match="no link"):
        await links.request(ONE, RequestKind.BODIES, b"", 1_000)


async def test_a_request_that_is_not_answered_in_time_fails(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    links, _ = await start_links(1)
    async with open_raw(consortium, links.listen_port):
        await wait_for(lambda: links.connected)
        with pytest.raises(RequestFailed, match="within 30 ms"):
            await links.request(ZERO, RequestKind.BODIES, b"", 30)


async def test_open_requests_fail_when_the_link_ends(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    links, _ = await start_links(1)
    async with open_raw(consortium, links.listen_port) as raw:
        await wait_for(lambda: links.connected)
        asking = asyncio.create_task(links.request(ZERO, RequestKind.BODIES, b"", 5_000))
        await asyncio.sleep(0.02)
        await raw.close()
        with pytest.raises(RequestFailed, match="link ended"):
            await asking


async def test_a_peer_that_does_not_read_its_answers_gets_no_more(
    consortium: Any, start_links: Any, wait_for: Any, fast: Any
) -> None:
    links, _ = await start_links(1, settings=dataclasses.replace(fast, answers_max=4))
    links.serve(RequestKind.BODIES, lambda replica, payload: bytes(200_000))
    async with open_raw(consortium, links.listen_port) as raw:
        request = b"\x93\x01\x01\xc4\x00"
        for _ in range(200):
            await raw.send_bytes(encode_frame(Channel.REQUEST, [request] * 20))
        await wait_for(lambda: links.counters[ZERO].requests_dropped > 1_000)
        assert links.connected == (0,)


async def test_a_peer_that_stops_reading_is_let_go_and_nothing_waits_for_it(
    consortium: Any, start_links: Any, wait_for: Any, fast: Any
) -> None:
    settings = dataclasses.replace(fast, heartbeat_ms=200, relay_bytes_max=1_000_000)
    links, _ = await start_links(1, settings=settings)
    async with open_raw(consortium, links.listen_port) as raw:
        await wait_for(lambda: links.connected)
        raw._response.connection.transport.pause_reading()
        for _ in range(300):
            links.broadcast_transactions([bytes(100_000)])
            links.broadcast(b"vote")
            await asyncio.sleep(0)
        assert links.dropped[ZERO][1] > 0
        await wait_for(lambda: not links.connected)
        assert links._peers[ZERO].queue.take() is None


async def test_small_frames_are_not_held_back(start_links: Any, wait_for: Any) -> None:
    accepting, _ = await start_links(1)
    dialling, _ = await start_links(0)
    await wait_for(lambda: dialling.connected and accepting.connected)
    for links, other in ((dialling, ONE), (accepting, ZERO)):
        raw = links._peers[other].socket.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_former_member_is_let_go_and_a_new_one_awaited(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    members = consortium.replica_set.members
    two = ReplicaSet(epoch=0, members=members[:2])
    accepting, _ = await start_links(1, replica_set=two)
    dialling, _ = await start_links(0)
    await wait_for(lambda: accepting.connected == (0,))
    accepting.update_nodes(
        KnownNode(replica=ReplicaId(member.replica), public_key=member.public_key) for member in members[1:]
    )
    await wait_for(lambda: accepting.connected == ())
    assert set(accepting.counters) == {2, 3}
    assert dialling.refused.counts["certificate"] == 0


def know(consortium: Any, *replicas: int, **changes: Any) -> list[KnownNode]:
    """These nodes with their own keys."""
    keys = {replica: consortium.keys[replica].public_key for replica in replicas}
    return [
        dataclasses.replace(KnownNode(replica=ReplicaId(replica), public_key=key), **changes)
        for replica, key in keys.items()
    ]


async def test_a_registered_node_is_dialled_at_the_address_that_the_ledger_has(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    two = ReplicaSet(epoch=0, members=consortium.replica_set.members[:2])
    dialling, _ = await start_links(0, replica_set=two)
    following, _ = await start_links(3)
    address = {"host": "127.0.0.1", "port": following.listen_port}
    dialling.update_nodes([*know(consortium, 0, 1), *know(consortium, 3, **address)])
    await wait_for(lambda: dialling.connected == (3,))
    await wait_for(lambda: following.connected == (0,))
    following.update_nodes(know(consortium, 1, 2))
    await wait_for(lambda: dialling.connected == ())


async def test_a_node_with_another_key_is_let_go_and_awaited_with_the_new_one(
    consortium: Any, start_links: Any, wait_for: Any
) -> None:
    accepting, _ = await start_links(1)
    dialling, _ = await start_links(0)
    await wait_for(lambda: accepting.connected == (0,))
    changed = dataclasses.replace(know(consortium, 0)[0], public_key=consortium.keys[3].public_key)
    accepting.update_nodes([changed, *know(consortium, 2)])
    await wait_for(lambda: accepting.connected == () and accepting.refused.counts["certificate"])
    accepting.update_nodes(know(consortium, 0, 2))
    await wait_for(lambda: accepting.connected == (0,) and dialling.connected == (1,))


async def test_an_address_in_use_is_told_at_start(start_links: Any) -> None:
    links, _ = await start_links(1)
    with pytest.raises(OSError, match="in use"):
        await start_links(2, port=links.listen_port)


async def test_a_defect_in_a_handler_ends_the_link_but_not_the_node(start_links: Any, wait_for: Any) -> None:
    accepting, inbox_1 = await start_links(1)
    dialling, inbox_0 = await start_links(0)
    await wait_for(lambda: dialling.connected and accepting.connected)
    inbox_0.consensus = _Broken()
    inbox_1.consensus = _Broken()
    with structlog.testing.capture_logs() as lines:
        accepting.send(ZERO, b"to the one that dials")
        await wait_for(lambda: inbox_0.connected == [1, 1])
    assert "link ended by a defect" in [line["event"] for line in lines]
    await wait_for(lambda: accepting.connected)
    dialling.send(ONE, b"to the one that accepts")
    await wait_for(lambda: inbox_0.connected == [1, 1, 1])
    assert accepting.counters[ZERO].cuts == 0


async def test_a_defect_in_answering_ends_the_link_but_not_the_node(start_links: Any, wait_for: Any) -> None:
    accepting, _ = await start_links(1)
    dialling, inbox = await start_links(0)
    await wait_for(lambda: dialling.connected and accepting.connected)
    accepting.serve(RequestKind.BODIES, lambda replica, payload: bytes([1 // len(payload)]))
    with pytest.raises(RequestFailed, match="link ended"):
        await dialling.request(ONE, RequestKind.BODIES, b"", 30_000)
    await wait_for(lambda: inbox.connected == [1, 1])
    assert await dialling.request(ONE, RequestKind.BODIES, b"x", 30_000) == b"\x01"
    assert accepting.counters[ZERO].cuts == 0


class _Broken(list[Any]):
    def append(self, item: Any) -> None:
        raise RuntimeError("a defect")


async def test_d1_a_flood_waits_in_its_senders_socket_and_other_peers_are_heard(
    start_links: Any, fast: Any, wait_for: Any
) -> None:
    settings = dataclasses.replace(fast, messages_per_second_max=100)
    accepting, inbox = await start_links(2, settings=settings)
    flooder, _ = await start_links(1)
    honest, _ = await start_links(0)
    await wait_for(lambda: len(accepting.connected) == 2)
    # Each side of a link finds it up by itself; what is sent before is dropped.
    await wait_for(lambda: all(2 in links.connected for links in (flooder, honest)))
    for number in range(200):
        flooder.send(ReplicaId(2), number.to_bytes(1_000, "big"))
    await wait_for(lambda: len(inbox.consensus) >= 100)
    assert len(inbox.consensus) < 200
    honest.send(ReplicaId(2), b"vote")
    await wait_for(lambda: (0, b"vote") in inbox.consensus)
    assert len(inbox.consensus) < 200
    await wait_for(lambda: len(inbox.consensus) == 201)


async def test_d1_large_messages_count_by_their_bytes(start_links: Any, fast: Any, wait_for: Any) -> None:
    settings = dataclasses.replace(fast, messages_per_second_max=200)
    accepting, inbox = await start_links(1, settings=settings)
    flooder, _ = await start_links(0)
    await wait_for(lambda: accepting.connected and flooder.connected)
    for _ in range(10):
        flooder.send(ONE, bytes(100_000))
    await wait_for(lambda: len(inbox.consensus) >= 4)
    assert len(inbox.consensus) < 10
    await wait_for(lambda: len(inbox.consensus) == 10)

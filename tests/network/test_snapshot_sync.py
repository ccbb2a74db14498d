"""Fetching a snapshot from peers, and giving one: what is on offer, bounded in time, room and pieces."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from consensus.replica_set import ReplicaId
from crypto.encoding import decode_as, encode
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.snapshot import CertifiedHeader
from network import snapshot_sync
from network.requests import BadRequest, RequestKind
from network.settings import FetchSettings
from network.snapshot_serving import MANIFEST, SnapshotAnswer, SnapshotRequest, SnapshotServer
from network.snapshot_sync import Offer, SnapshotSync, SnapshotUnavailable
from tests.ledger.snapshot_source import Source
from tests.network.snapshot_peers import PEER, Peers, fail, offer_only, serve


class SlowPeers(Peers):
    """Some of them take their time for every answer."""

    def __init__(self, source: Source, slow: set[int], count: int, seconds: float) -> None:
        super().__init__({peer: serve(source) for peer in range(count)})
        self.slow, self.seconds = slow, seconds
        self.open = self.open_max = 0

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None:
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            await asyncio.sleep(self.seconds if replica in self.slow else 0)
            return await super().request(replica, kind, payload, timeout_ms)
        finally:
            self.open -= 1


async def find(source: Source, peers: Peers) -> list[Offer]:
    async with asyncio.timeout(30):
        return await SnapshotSync(peers, source.kit.genesis).find_offers(peers.connected)


async def test_one_whose_manifest_comes_slowly_piece_by_piece_does_not_hold_up_what_others_offer(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sync, "MANIFEST_SECONDS", 1.0)
    peers = SlowPeers(source, slow={0}, count=2, seconds=0.4)
    assert len(source.offered.manifest) > 2 * 2_000, "it comes in pieces"
    (offer,) = await find(source, peers)
    assert offer.peers == {1}
    assert peers.penalised == []


async def test_what_has_come_when_the_time_for_all_of_them_is_over_is_on_offer(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sync, "FIND_SECONDS", 1.0)
    monkeypatch.setattr(snapshot_sync, "MANIFEST_SECONDS", 60)
    (offer,) = await find(source, SlowPeers(source, slow={0, 2}, count=3, seconds=60))
    assert offer.peers == {1}


async def test_a_manifest_in_ever_so_small_pieces_is_refused(source: Source) -> None:
    peers = Peers({1: serve(source, answer_bytes=1), 2: serve(source)})
    (offer,) = await find(source, peers)
    assert offer.peers == {2}
    assert peers.penalised == [1]
    assert sum(replica == 1 for replica, _ in peers.asked) == 1


async def test_few_peers_at_a_time_are_asked_for_a_manifest(source: Source) -> None:
    peers = SlowPeers(source, slow=set(range(20)), count=20, seconds=0.001)
    (offer,) = await find(source, peers)
    assert offer.peers == set(range(20))
    assert peers.open_max == snapshot_sync.MANIFESTS_AT_ONCE_MAX


async def test_nodes_with_the_votes_of_other_quorums_offer_the_same_snapshot(source: Source) -> None:
    block: Any = SimpleNamespace(header=source.verified.header, digest=source.chain.head.digest)
    certificate = source.kit.certify(block, signers=(1, 2, 3))
    assert certificate != source.manifest.head.certificate
    head = CertifiedHeader(source.manifest.head.header, certificate)
    other = encode(msgspec.structs.replace(source.manifest, head=head))
    peers = Peers({1: serve(source), 2: lambda payload: encode(SnapshotAnswer(30, (other,), 0))})
    (offer,) = await find(source, peers)
    assert offer.peers == {1, 2}


async def test_what_is_offered_of_one_height_is_asked_by_that_height(source: Source) -> None:
    peers = Peers({1: serve(source)})
    sync = SnapshotSync(peers, source.kit.genesis)
    assert len(await sync.find_offers(peers.connected, height=30)) == 1
    assert await sync.find_offers(peers.connected, height=29) == []
    assert await sync.find_offers(()) == []


async def test_without_anybody_who_gives_the_parts_the_fetch_ends_and_says_so(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sync, "PAUSE_SECONDS", 0)
    sync = SnapshotSync(Peers({1: offer_only(serve(source))}), source.kit.genesis)
    with ChunkFile(source.kit.directory / "chunks") as chunks, pytest.raises(SnapshotUnavailable):
        await sync.fetch(source.verified, chunks)
    assert sync.counters.unanswered == 8
    assert sync.counters.fetched_percent == 0


async def test_the_server_answers_what_is_there_in_bounded_pieces_and_nothing_else(source: Source) -> None:
    ask = serve(source, answer_bytes=500)

    def request(height: int, kind: int, *numbers: int, offset: int = 0) -> SnapshotAnswer | None:
        given = ask(encode(SnapshotRequest(height, kind, numbers, offset)))
        return None if given is None else decode_as(SnapshotAnswer, given, size_max=1_000)

    whole, left = b"", 1
    while left:
        answer = request(30, MANIFEST, offset=len(whole))
        assert answer is not None
        assert len(answer.parts[0]) <= 500
        whole, left = whole + answer.parts[0], answer.left
    assert whole == source.offered.manifest
    for nothing in (
        (29, MANIFEST),
        (30, ChunkKind.STATE),
        (0, ChunkKind.STATE, 1),
        (30, ChunkKind.HISTORY, 1),
    ):
        assert request(*nothing) is None
    assert request(30, ChunkKind.BLOCK, 19) is None  # Below the window.
    assert request(30, ChunkKind.BLOCK, 31) is None
    assert request(30, ChunkKind.HISTORY, 0, offset=10**6) is None
    for bad in (b"", b"garbage", encode(SnapshotRequest(30, 1, tuple(range(64)), 0)) + b"x"):
        with pytest.raises(BadRequest):
            ask(bad)


async def test_a_snapshot_is_held_for_whom_parts_of_it_were_given_not_for_who_looks_what_there_is(
    source: Source,
) -> None:
    ask = serve(source, answer_bytes=500)
    for request in (
        SnapshotRequest(0, MANIFEST, (), 0),
        SnapshotRequest(30, MANIFEST, (), 500),
        SnapshotRequest(29, ChunkKind.HISTORY, (0,), 0),
        SnapshotRequest(30, ChunkKind.BLOCK, (31,), 0),
    ):
        ask(encode(request))
    assert source.shelf.holds.list_held(60, range(100)) == []
    ask(encode(SnapshotRequest(30, ChunkKind.HISTORY, (0,), 0)))
    assert source.shelf.holds.list_held(60, range(100)) == [30]


async def test_a_peer_that_asks_too_often_gets_nothing_for_the_rest_of_the_second(source: Source) -> None:
    now = 0.0
    server = SnapshotServer(
        source.shelf,
        lambda: source.chain.archive,
        find_institution=lambda replica: bytes([replica]),
        on_failure=fail,
        settings=FetchSettings(snapshot_requests_max=3),
        clock=lambda: now,
    )
    payload = encode(SnapshotRequest(0, MANIFEST, (), 0))
    assert [server.on_request(PEER, payload) is not None for _ in range(5)] == [True] * 3 + [False] * 2
    assert server.on_request(ReplicaId(2), payload) is not None
    now = 1.5
    assert server.on_request(PEER, payload) is not None
    assert server.served == 5

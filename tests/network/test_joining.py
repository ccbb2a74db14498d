"""Joining by a snapshot: from honest peers, liars, silent ones, and on after an interruption."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from consensus.replica_set import Member, ReplicaId, ReplicaSet
from crypto.encoding import decode_as, encode
from ledger.chain import Chain
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.settings import StoreSettings
from ledger.snapshot import VerifiedManifest, decode_manifest
from network import joining as joining_module
from network import snapshot_sync
from network.joining import JoinFolders, Joining
from network.requests import RequestKind
from network.snapshot_serving import MANIFEST, SnapshotAnswer, SnapshotRequest
from network.snapshot_sync import Offer, SnapshotSync
from tests.ledger.snapshot_source import Source
from tests.network.snapshot_peers import Answer, Peers, offer_only, read_request, serve, silent


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_sync, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(joining_module, "RETRY_SECONDS", 0)


def falsify(honest: Answer, change: Callable[[SnapshotAnswer], SnapshotAnswer]) -> Answer:
    """A peer whose manifest is right and whose parts are not."""

    def answer(payload: bytes) -> bytes | None:
        given = honest(payload)
        request = decode_as(SnapshotRequest, payload, size_max=1_024)
        if given is None or request.kind == MANIFEST:
            return given
        return encode(change(decode_as(SnapshotAnswer, given, size_max=1 << 20)))

    return answer


def join(source: Source, peers: Peers) -> Joining:
    folder = source.kit.directory / "joined"
    return Joining(
        peers,
        source.kit.genesis,
        JoinFolders(joining=folder / "joining", ledger=folder / "ledger", snapshots=folder / "snapshots"),
        contract_set=source.kit.contract_set,
        store_settings=StoreSettings(),
    )


def begin(source: Source, begun: Source) -> Path:
    """Where a node has begun to fetch this snapshot, and was stopped before it had a part."""
    folder = source.kit.directory / "joined/joining"
    folder.mkdir(parents=True)
    (folder / "manifest").write_bytes(begun.offered.manifest)
    return folder


def open_joined(source: Source) -> Chain:
    return source.kit.open("joined/ledger")


async def test_a_node_joins_from_several_peers_and_shares_the_work_among_them(source: Source) -> None:
    peers = Peers({1: serve(source), 2: serve(source), 3: serve(source)})
    joining = join(source, peers)
    async with asyncio.timeout(60):
        assert await joining.run() == 30
    assert min(map(peers.count, (1, 2, 3))) > 5
    chain = open_joined(source)
    assert chain.head == source.chain.head
    assert list(chain.state.scan(b"")) == list(source.chain.state.scan(b""))
    assert "parts are verified" in joining.progress
    assert peers.penalised == []
    # What was fetched is a snapshot that can be given on.
    again = decode_manifest((source.kit.directory / "joined/snapshots/30/manifest").read_bytes())
    assert again == source.manifest


LIES: dict[str, Callable[[SnapshotAnswer], SnapshotAnswer]] = {
    "changed bytes": lambda answer: SnapshotAnswer(
        answer.height,
        (answer.parts[0][:-1] + bytes((answer.parts[0][-1] ^ 1,)), *answer.parts[1:]),
        answer.left,
    ),
    "nothing": lambda answer: SnapshotAnswer(answer.height, (b"",), 0),
    "too many parts": lambda answer: SnapshotAnswer(answer.height, answer.parts[:1] * 64, 0),
    "never-ending": lambda answer: SnapshotAnswer(answer.height, (b"more",), 1 << 20),
    "ends nowhere": lambda answer: SnapshotAnswer(answer.height, (b"",), 5),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_liar_is_found_and_dropped_and_the_join_succeeds(source: Source, lie: str) -> None:
    honest = serve(source)
    peers = Peers({1: falsify(honest, LIES[lie]), 2: honest, 3: falsify(serve(source), LIES[lie])})
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert open_joined(source).head == source.chain.head
    assert {1, 3} <= set(peers.penalised)
    assert 2 not in peers.penalised
    assert peers.count(1) + peers.count(3) <= 4


async def test_a_peer_that_keeps_the_last_parts_waiting_is_overtaken(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sync, "TAKE_OVER_SECONDS", 0.05)
    honest = serve(source)

    class Stuck(Peers):
        async def request(
            self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
        ) -> bytes | None:
            answer = await super().request(replica, kind, payload, timeout_ms)
            if replica == 1 and self.asked[-1][1].kind != MANIFEST:
                await asyncio.Event().wait()
            return answer

    peers = Stuck({1: honest, 2: honest})
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert open_joined(source).head == source.chain.head


async def test_garbage_manifests_refusals_and_silence_do_not_keep_a_node_from_joining(source: Source) -> None:
    def garbage(payload: bytes) -> bytes | None:
        return b"garbage"

    peers = Peers({1: garbage, 2: silent, 3: lambda payload: None, 4: serve(source)})
    sync = SnapshotSync(peers, source.kit.genesis)
    (offer,) = await sync.find_offers(peers.connected)
    assert (offer.snapshot.height, offer.peers) == (30, {4})
    assert peers.penalised == [1]
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30


async def test_a_node_that_was_stopped_goes_on_with_what_is_verified(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    honest, left = serve(source), itertools.count()

    def dies(payload: bytes) -> bytes | None:
        if next(left) == 20:
            raise Killed
        return honest(payload)

    with pytest.raises(Killed):
        await join(source, Peers({1: dies})).run()
    with ChunkFile(source.kit.directory / "joined/joining/chunks") as chunks:
        held = {name for name in source.list_names() if name in chunks}
    assert len(held) > 10
    peers = Peers({2: honest})
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    asked = {
        (ChunkKind(request.kind), number)
        for _, request in peers.asked
        if request.kind != MANIFEST
        for number in request.numbers
    }
    assert asked == set(source.list_names()) - held
    assert open_joined(source).head == source.chain.head


async def test_a_part_that_was_damaged_on_the_disk_is_fetched_again(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining_module, "RETRY_SECONDS", 0)
    folder = begin(source, source)
    source.copy(folder / "chunks").close()
    data = bytearray((folder / "chunks").read_bytes())
    data[len(data) // 3] ^= 1
    (folder / "chunks").write_bytes(data)
    peers = Peers({1: serve(source)})
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert 1 <= peers.count(1) <= 3
    assert open_joined(source).head == source.chain.head


@pytest.mark.usefixtures("no_pauses")
async def test_l5_a_newer_snapshot_of_which_nobody_gives_a_part_keeps_no_node_from_joining(
    source: Source, grow: Callable[[], Source]
) -> None:
    peers = Peers({1: serve(source)})
    newer = grow()
    peers.answers[2] = offer_only(serve(newer))
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert {request.height for _, request in peers.asked if request.kind != MANIFEST} == {30, 31}


@pytest.mark.usefixtures("no_pauses")
async def test_a_peer_that_offers_a_newer_snapshot_each_time_costs_one_fetch_in_a_round(
    source: Source, grow: Callable[[], Source]
) -> None:
    peers, later = Peers({1: serve(source)}), [grow() for _ in range(4)]
    turns = itertools.chain(later, itertools.repeat(later[-1]))
    peers.answers[2] = offer_only(lambda payload: serve(next(turns), answer_bytes=1 << 20)(payload))
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert {request.height for _, request in peers.asked if request.kind != MANIFEST} == {30, 31}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("offers_newer_ones", [True, False])
async def test_l5_a_peer_that_gives_one_part_and_takes_its_snapshot_back_keeps_no_node_from_joining(
    source: Source, grow: Callable[[], Source], offers_newer_ones: bool
) -> None:
    """One part of so few is more than a twentieth; then it offers the same once more, or another."""
    peers = Peers({1: serve(source, answer_bytes=1 << 20)})
    later = [serve(grow(), answer_bytes=1 << 20) for _ in range(4 if offers_newer_ones else 1)]
    turns, has_given = itertools.chain(later[1:], itertools.repeat(later[-1])), False
    offered = later[0]

    def answer(payload: bytes) -> bytes | None:
        nonlocal offered, has_given
        request = read_request(payload)
        if has_given and (request.kind != MANIFEST or request.height):
            return None
        if has_given:
            offered = next(turns)
        has_given = request.kind != MANIFEST
        return offered(payload)

    peers.answers[2] = answer
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    heights = [request.height for _, request in peers.asked if request.kind != MANIFEST]
    assert [height for height, _ in itertools.groupby(heights)] == [31, 30]


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("still_offered", [True, False])
async def test_a_snapshot_that_was_begun_and_that_nobody_gives_any_more_is_left_for_another(
    source: Source, grow: Callable[[], Source], still_offered: bool
) -> None:
    honest, newer = serve(source), grow()
    begin(source, newer)

    def answer_another(payload: bytes) -> bytes | None:
        return honest(encode(SnapshotRequest(30, MANIFEST, (), read_request(payload).offset)))

    peers = Peers({1: honest, 2: offer_only(serve(newer) if still_offered else answer_another)})
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    heights = [request.height for _, request in peers.asked if request.kind != MANIFEST]
    assert (31 in heights) is still_offered
    published = source.kit.directory / "joined/snapshots/30/manifest"
    assert decode_manifest(published.read_bytes()).head.header == source.manifest.head.header


async def test_a_snapshot_of_more_peers_than_may_be_faulty_comes_before_a_newer_one(
    source: Source, grow: Callable[[], Source]
) -> None:
    peers = Peers({1: serve(source), 2: serve(source)})
    newer = grow()
    peers.answers[3] = offer_only(serve(newer))
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert {request.height for _, request in peers.asked if request.kind != MANIFEST} == {30}


def test_how_many_peers_may_be_faulty_is_told_by_the_set_of_now_where_that_of_the_genesis_was_smaller(
    source: Source,
) -> None:
    members = tuple(Member(one, bytes([one]) * 32, bytes([one]) * 16) for one in range(10))
    change: Any = SimpleNamespace(replica_set=ReplicaSet(1, members))
    manifest = msgspec.structs.replace(source.manifest, epoch_changes=(change,))
    grown = dataclasses.replace(source.verified, manifest=manifest)

    def is_backed(snapshot: VerifiedManifest, count: int) -> bool:
        return join(source, Peers({}))._rank(Offer(snapshot, set(map(ReplicaId, range(count)))))[0]

    assert [count for count in range(6) if is_backed(source.verified, count)] == [2, 3, 4, 5]
    assert [count for count in range(6) if is_backed(grown, count)] == [4, 5]


@pytest.mark.usefixtures("no_pauses")
async def test_who_gave_nothing_for_a_while_is_asked_again_when_nobody_else_offers_anything(
    source: Source,
) -> None:
    honest, left = serve(source), itertools.count()

    def late(payload: bytes) -> bytes | None:
        if read_request(payload).kind != MANIFEST and next(left) < 2 * snapshot_sync.FAILURES_MAX:
            return None
        return honest(payload)

    async with asyncio.timeout(60):
        assert await join(source, Peers({1: late, 2: silent})).run() == 30


@pytest.mark.usefixtures("no_pauses")
async def test_a_snapshot_that_is_being_had_bit_by_bit_is_kept(
    source: Source, grow: Callable[[], Source]
) -> None:
    """Its only holder falls silent again and again, while another offers a newer one of no use."""
    honest, asked = serve(source), itertools.count()

    def flapping(payload: bytes) -> bytes | None:
        if read_request(payload).kind == MANIFEST:
            return honest(payload)
        return honest(payload) if next(asked) % 20 < 12 else None

    peers = Peers({1: flapping})
    newer = grow()
    begin(source, source)
    peers.answers[2] = offer_only(serve(newer))
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert {request.height for _, request in peers.asked if request.kind != MANIFEST} == {30}

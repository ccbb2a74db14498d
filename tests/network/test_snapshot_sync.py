"""Joining by a snapshot over links: from honest peers, liars, silent ones, and on after an interruption."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consensus.replica_set import ReplicaId
from crypto.encoding import decode_as, encode
from ledger.chain import Chain
from ledger.chunk_file import ChunkFile, ChunkKind
from ledger.genesis import Parameters
from ledger.settings import StoreSettings
from ledger.snapshot import decode_manifest
from network import joining as joining_module
from network import snapshot_sync
from network.joining import JoinFolders, Joining, JoinPolicy
from network.requests import BadRequest, RequestFailed, RequestKind
from network.settings import FetchSettings
from network.snapshot_serving import MANIFEST, SnapshotAnswer, SnapshotRequest, SnapshotServer
from network.snapshot_sync import SnapshotSync, SnapshotUnavailable
from tests.ledger.conftest import Kit
from tests.ledger.snapshot_source import WINDOW_MS, Source, make_source

PEER = ReplicaId(1)
Answer = Callable[[bytes], bytes | None]


@dataclass
class Peers:
    """Links to peers that answer as they like."""

    answers: dict[int, Answer]
    asked: list[tuple[int, SnapshotRequest]] = field(default_factory=list)
    penalised: list[int] = field(default_factory=list)

    @property
    def connected(self) -> tuple[ReplicaId, ...]:
        return tuple(ReplicaId(replica) for replica in sorted(self.answers))

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None:
        assert kind is RequestKind.SNAPSHOT
        self.asked.append((replica, decode_as(SnapshotRequest, payload, size_max=1_024)))
        await asyncio.sleep(0)
        return self.answers[replica](payload)

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.penalised.append(replica)

    def count(self, replica: int) -> int:
        """Requests for parts."""
        return sum(asked == replica and request.kind != MANIFEST for asked, request in self.asked)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    kit = Kit(tmp_path / "kit", parameters=Parameters(state_buckets_log2=8, expiry_window_ms_max=WINDOW_MS))
    made = make_source(kit, tmp_path / "snapshots")
    yield made
    made.shelf.close()
    for chain in kit.chains:
        chain.close()


def fail(error: BaseException) -> None:
    raise AssertionError("the ledger's database must not fail here") from error


def serve(source: Source, *, answer_bytes: int = 2_000, requests_max: int = 10**6) -> Answer:
    """An honest peer whose answers are small, so that there are many."""
    settings = FetchSettings(answer_bytes_max=answer_bytes, snapshot_requests_max=requests_max)
    server = SnapshotServer(
        source.shelf,
        lambda: source.chain.archive,
        find_institution=lambda replica: bytes([replica]),
        on_failure=fail,
        settings=settings,
    )
    return lambda payload: server.on_request(PEER, payload)


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
    def silent(payload: bytes) -> bytes | None:
        raise RequestFailed("no answer")

    def garbage(payload: bytes) -> bytes | None:
        return b"garbage"

    peers = Peers({1: garbage, 2: silent, 3: lambda payload: None, 4: serve(source)})
    sync = SnapshotSync(peers, source.kit.genesis)
    newest = await sync.find_newest()
    assert newest is not None
    assert newest.height == 30
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
    folder = source.kit.directory / "joined/joining"
    folder.mkdir(parents=True)
    (folder / "manifest").write_bytes(source.offered.manifest)
    source.copy(folder / "chunks").close()
    data = bytearray((folder / "chunks").read_bytes())
    data[len(data) // 3] ^= 1
    (folder / "chunks").write_bytes(data)
    peers = Peers({1: serve(source)})
    async with asyncio.timeout(60):
        assert await join(source, peers).run() == 30
    assert 1 <= peers.count(1) <= 3
    assert open_joined(source).head == source.chain.head


async def test_without_anybody_who_gives_the_parts_the_fetch_ends_and_says_so(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sync, "PAUSE_SECONDS", 0)

    def only_manifest(payload: bytes) -> bytes | None:
        request = decode_as(SnapshotRequest, payload, size_max=1_024)
        return serve(source)(payload) if request.kind == MANIFEST else None

    sync = SnapshotSync(Peers({1: only_manifest}), source.kit.genesis)
    with ChunkFile(source.kit.directory / "chunks") as chunks, pytest.raises(SnapshotUnavailable):
        await sync.fetch(source.verified, chunks)
    assert sync.counters.unanswered == 8


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


@pytest.mark.parametrize(
    ("height", "target", "is_stuck", "expected"),
    [
        (0, 1_999, False, False),  # Blocks will do.
        (0, 2_000, False, True),
        (1, 5_000, False, False),
        (5, 6, True, True),
        (30, 31, True, False),  # The snapshot does not help.
    ],
)
async def test_a_snapshot_is_taken_when_far_behind_or_stuck_and_only_if_it_helps(
    source: Source, height: int, target: int, is_stuck: bool, expected: bool
) -> None:
    settings = FetchSettings(join_wait_ms=0)
    policy = JoinPolicy(Peers({1: serve(source)}), source.kit.genesis, settings=settings, clock_ms=lambda: 1)
    assert await policy.should_join(height=height, target=target, is_stuck=is_stuck) is expected
    if expected:  # Once in a while only.
        assert not await policy.should_join(height=height, target=target, is_stuck=is_stuck)


async def test_a_node_is_stuck_only_when_the_next_block_was_not_to_be_had_for_a_while(source: Source) -> None:
    now_ms = 1
    peers = Peers({1: serve(source)})
    policy = JoinPolicy(peers, source.kit.genesis, clock_ms=lambda: now_ms)
    assert not await policy.should_join(height=5, target=40, is_stuck=True)
    now_ms += 1_999
    assert not await policy.should_join(height=5, target=40, is_stuck=True)
    assert not await policy.should_join(height=6, target=40, is_stuck=True)
    assert peers.asked == []
    now_ms += 1_999
    assert not await policy.should_join(height=6, target=40, is_stuck=True)
    now_ms += 1
    assert await policy.should_join(height=6, target=40, is_stuck=True)

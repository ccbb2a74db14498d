"""Catching up: one peer after the other, in batches; liars are passed over, disk errors are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing

from consensus.certificates import Certificate, VoteSignature
from consensus.replica_set import Member, ReplicaId, ReplicaSet
from crypto.encoding import encode
from ledger.block_sync import SyncBlock
from ledger.epochs import CurrentEpoch
from ledger.errors import BlockRefused, EpochUnknown
from network.block_sync import BlocksRequest, BlockSync
from network.requests import BadRequest, RequestFailed, RequestKind
from network.settings import FetchSettings

ME = ReplicaId(0)
SETTINGS = FetchSettings(sync_blocks_max=4)


def make_block(height: int) -> SyncBlock:
    signatures = (VoteSignature(0, bytes(64)),)
    certificate = Certificate(0, height, 0, bytes([height]) * 32, signatures)
    return SyncBlock(header=b"header", certificate=certificate, transactions=(b"t" * 100,))


def make_epoch(count: int) -> CurrentEpoch:
    members = tuple(Member(replica, bytes([replica]) * 32, bytes([replica]) * 16) for replica in range(count))
    return CurrentEpoch(replica_set=ReplicaSet(0, members), base_height=0, closing=None)


FOUNDERS = make_epoch(1)


@dataclass
class FakeChain:
    """A ledger that takes blocks in order, with the one header that it knows."""

    height: int = 0
    epoch: Any = FOUNDERS
    error: BaseException | None = None

    @property
    def head(self) -> Any:
        certificate = make_block(self.height).certificate if self.height else None
        return SimpleNamespace(height=self.height, digest=bytes([self.height]) * 32, certificate=certificate)

    async def apply(self, block: SyncBlock) -> bool:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if block.certificate.height <= self.height:
            return False
        if block.certificate.height != self.height + 1 or block.header != b"header":
            raise BlockRefused("certificate", "nonsense", "a quorum")
        self.height += 1
        return True

    def serve(self, height_from: int, count_max: int, bytes_max: int) -> list[SyncBlock]:
        last = min(self.height, height_from + count_max - 1)
        return [make_block(height) for height in range(height_from, last + 1)]


Answer = Callable[[bytes], bytes | None]


@dataclass
class FakeLinks:
    answers: dict[int, Answer]
    asked: list[int] = field(default_factory=list)
    penalised: list[int] = field(default_factory=list)

    @property
    def connected(self) -> tuple[ReplicaId, ...]:
        return tuple(ReplicaId(replica) for replica in sorted(self.answers))

    async def request(
        self, replica: ReplicaId, kind: RequestKind, payload: bytes, timeout_ms: int
    ) -> bytes | None:
        assert kind is RequestKind.BLOCKS
        self.asked.append(replica)
        await asyncio.sleep(0)
        return self.answers[replica](payload)

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.penalised.append(replica)


@dataclass
class Policy:
    """Joins whenever it is asked in one of these two situations."""

    joins_when_stuck: bool
    declined: list[tuple[int, int]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    joined: int = 0

    async def is_far_behind(self, target: int) -> bool:
        self.targets.append(target)
        return not self.joins_when_stuck

    def needs_snapshot(self, declined: int, faults_max: int) -> bool:
        self.declined.append((declined, faults_max))
        return self.joins_when_stuck and declined > faults_max

    async def close(self) -> None:
        pass

    def join(self) -> None:
        self.joined += 1


@dataclass
class World:
    sync: BlockSync
    chain: FakeChain
    links: FakeLinks
    synced: list[int]
    failures: list[BaseException]

    async def finish(self) -> None:
        async with asyncio.timeout(30):
            while self.sync.is_running:  # noqa: ASYNC110 - it has no event of its own
                await asyncio.sleep(0)


def make_world(
    answers: dict[int, Answer], chain: FakeChain | None = None, policy: Policy | None = None
) -> World:
    links, chain = FakeLinks(answers), chain or FakeChain()
    synced, failures = list[int](), list[BaseException]()
    sync = BlockSync(
        links=links,
        chain=chain,
        apply=chain.apply,
        serve=chain.serve,
        on_synced=lambda height, *_: synced.append(height),
        on_failure=failures.append,
        join_policy=policy,
        on_join=lambda: None if policy is None else policy.join(),
        settings=SETTINGS,
    )
    return World(sync, chain, links, synced, failures)


def serve(height: int) -> Answer:
    """A peer whose head is at `height`."""
    server = make_world({}, FakeChain(height=height)).sync
    return lambda payload: server.on_request(ME, payload)


def fail(payload: bytes) -> bytes:
    raise RequestFailed("no answer")


def decline(payload: bytes) -> None:
    """A peer without the blocks that are asked for."""


def lie(payload: bytes) -> bytes:
    return encode(((make_block(1), SyncBlock(b"other", make_block(2).certificate, ())),))


async def test_missing_blocks_are_fetched_in_batches_and_each_progress_is_told() -> None:
    world = make_world({1: serve(10), 2: serve(10)})
    world.sync.request(10, ReplicaId(2))
    await world.finish()
    assert world.chain.height == 10
    assert world.synced == [4, 8, 10]
    assert world.links.asked == [2, 1, 2]


async def test_where_peers_hold_the_blocks_no_more_the_node_joins_by_a_snapshot() -> None:
    policy = Policy(joins_when_stuck=True)
    world = make_world({1: decline, 2: fail}, FakeChain(height=3), policy)
    world.sync.request(10, ReplicaId(1))
    await world.finish()
    assert policy.targets == [10]
    assert policy.joined == 1


async def test_a_peer_that_answers_with_no_blocks_does_not_hide_that_nobody_has_them() -> None:
    policy = Policy(joins_when_stuck=True)
    answers: dict[int, Answer] = {1: decline, 2: lambda payload: encode(((),))}
    world = make_world(answers, FakeChain(height=3), policy)
    world.sync.request(10, ReplicaId(1))
    await world.finish()
    assert policy.joined == 1
    assert world.links.penalised == [2]


@pytest.mark.parametrize(
    ("runs", "joined"),
    [
        ([{1, 2}], 1),
        ([{1}, {1}], 0),  # One peer that is asked twice is one peer.
        ([{1}, {2}], 0),  # The first may have the block by now.
    ],
)
async def test_more_peers_than_may_be_faulty_have_no_block_in_one_run_before_a_node_is_stuck(
    runs: list[set[int]], joined: int
) -> None:
    policy = Policy(joins_when_stuck=True)
    world = make_world({}, FakeChain(height=3, epoch=make_epoch(4)), policy)
    for declining in runs:
        world.links.answers = {peer: decline if peer in declining else fail for peer in (1, 2, 3)}
        world.sync.request(10, ReplicaId(1))
        await world.finish()
    assert policy.joined == joined


def drip(chain: FakeChain, height_max: int = 250) -> Answer:
    """A peer that gives one block at a time, whatever it is asked for."""
    return lambda payload: serve(min(chain.height + 1, height_max))(payload)


async def test_l5_a_peer_that_gives_one_block_at_a_time_keeps_no_node_from_joining() -> None:
    policy = Policy(joins_when_stuck=True)
    world = make_world({2: decline, 3: decline}, FakeChain(height=3, epoch=make_epoch(4)), policy)
    world.links.answers[1] = drip(world.chain)
    world.sync.request(200, ReplicaId(1))
    await world.finish()
    assert policy.joined == 1
    assert world.links.asked == [1, 2, 3]


async def test_l5_a_peer_that_had_no_block_once_is_asked_again_while_the_others_give_little() -> None:
    def lag(payload: bytes) -> bytes | None:
        return serve(3 if world.chain.height == 4 else 200)(payload)

    policy = Policy(joins_when_stuck=True)
    world = make_world({2: lag, 3: fail}, FakeChain(height=3, epoch=make_epoch(4)), policy)
    world.links.answers[1] = drip(world.chain)
    world.sync.request(200, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 200
    assert world.links.asked.count(1) <= 200 // SETTINGS.sync_blocks_max
    # Who was silent does not hold up whole batches again and again.
    assert world.links.asked.count(3) == 2
    assert policy.declined == [(1, 1)]


async def test_a_peer_that_gave_a_block_since_does_not_count_among_those_that_have_none() -> None:
    chain = FakeChain(height=3, epoch=make_epoch(7))
    policy = Policy(joins_when_stuck=True)

    def give(*heights: int) -> Answer:
        """One block at a time, of these heights only."""
        return lambda payload: drip(chain)(payload) if chain.height + 1 in heights else None

    world = make_world({1: give(5), 2: give(4), 3: give(6)}, chain, policy)
    world.sync.request(20, ReplicaId(1))
    await world.finish()
    assert chain.height == 6
    assert policy.declined == [(2, 2), (1, 2), (3, 2)], "1 and 3 lacked one; then 2 did; then nobody had any"


async def test_how_many_of_a_smaller_set_may_be_faulty_is_left_to_the_policy() -> None:
    policy = Policy(joins_when_stuck=True)
    world = make_world(dict.fromkeys((1, 2, 3), decline), FakeChain(height=3, epoch=make_epoch(10)), policy)
    world.sync.request(10, ReplicaId(1))
    await world.finish()
    assert policy.declined == [(3, 3)]


async def test_a_node_that_is_far_behind_joins_before_it_fetches_a_block() -> None:
    policy = Policy(joins_when_stuck=False)
    world = make_world({1: serve(10)}, policy=policy)
    world.sync.request(10, ReplicaId(1))
    await world.finish()
    assert policy.joined == 1
    assert world.links.asked == []


@pytest.mark.parametrize("answers", [{1: fail, 2: fail}, {1: lie}, {1: decline, 2: serve(10)}])
async def test_silence_lies_and_one_peer_without_blocks_send_nobody_to_join(
    answers: dict[int, Answer],
) -> None:
    policy = Policy(joins_when_stuck=True)
    world = make_world(answers, FakeChain(epoch=make_epoch(4)), policy)
    world.sync.request(10, ReplicaId(1))
    await world.finish()
    assert policy.joined == 0


async def test_no_more_is_fetched_than_was_asked_for() -> None:
    world = make_world({1: serve(10)})
    world.sync.request(5, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 5


async def test_a_later_request_raises_the_target_of_the_run_under_way() -> None:
    world = make_world({1: serve(10)})
    world.sync.request(2, ReplicaId(1))
    world.sync.request(10, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 10


async def test_a_source_that_is_gone_or_silent_or_behind_is_passed_over() -> None:
    world = make_world({1: fail, 2: lambda payload: None, 3: serve(6)})
    world.sync.request(6, ReplicaId(9))
    await world.finish()
    assert world.chain.height == 6
    assert world.links.penalised == []


async def test_a_lying_peer_is_counted_against_and_another_is_asked() -> None:
    world = make_world({1: lie, 2: serve(6)})
    world.sync.request(6, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 6
    assert world.links.penalised
    assert set(world.links.penalised) == {1}
    assert world.failures == []


@pytest.mark.parametrize("garbage", [b"", b"\xc1", encode(("x",)), encode(((b"x",),))])
async def test_garbage_for_blocks_is_counted_against_the_peer(garbage: bytes) -> None:
    world = make_world({1: lambda payload: garbage, 2: serve(3)})
    world.sync.request(3, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 3
    assert world.links.penalised == [1]


async def test_more_blocks_than_asked_for_are_refused_so_that_consensus_is_not_overtaken() -> None:
    more = encode((tuple(make_block(height) for height in range(1, 5)),))
    world = make_world({1: lambda payload: more, 2: serve(4)})
    world.sync.request(2, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 2
    assert world.links.penalised == [1]
    assert world.links.asked == [1, 2]


async def test_a_peer_that_gives_one_block_at_a_time_does_not_hold_the_node_back() -> None:
    world = make_world({2: serve(20)})
    world.links.answers[1] = drip(world.chain)
    world.sync.request(20, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 20
    assert world.links.asked.count(1) == 4


async def test_when_nobody_helps_the_run_ends_and_may_be_asked_for_again() -> None:
    world = make_world({1: serve(3)})
    world.sync.request(8, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 3
    world.links.answers[2] = serve(8)
    world.sync.request(8, ReplicaId(2))
    await world.finish()
    assert world.chain.height == 8


async def test_a_block_that_consensus_committed_meanwhile_does_no_harm() -> None:
    world = make_world({1: serve(4)})

    def answer(payload: bytes) -> bytes | None:
        blocks = serve(4)(payload)
        world.chain.height = 2  # Consensus was faster while the answer was under way.
        return blocks

    world.links.answers[1] = answer
    world.sync.request(4, ReplicaId(1))
    await world.finish()
    assert world.chain.height == 4
    assert world.links.penalised == []


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("results differ")])
async def test_p7_what_must_stop_the_node_is_told(error: Exception) -> None:
    world = make_world({1: serve(3)}, FakeChain(error=error))
    world.sync.request(3, ReplicaId(1))
    await world.finish()
    assert world.failures == [error]
    assert world.links.penalised == []


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", encode((0, 1)), encode((1, 0)), encode((1, 300)), encode((1, 1, 1))]
)
def test_d1_a_request_out_of_bounds_is_refused(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        make_world({}).sync.on_request(ReplicaId(1), payload)


def test_a_request_for_more_than_one_answer_holds_gets_what_fits() -> None:
    served: list[int] = []
    chain = FakeChain(height=100)

    def serve_counted(height_from: int, count_max: int, bytes_max: int) -> list[SyncBlock]:
        served.append(count_max)
        return chain.serve(height_from, count_max, bytes_max)

    world = make_world({}, chain)
    world.sync._serve = serve_counted
    assert world.sync.on_request(ReplicaId(1), encode(BlocksRequest(1, 200))) is not None
    assert served == [4]
    assert world.sync.on_request(ReplicaId(1), encode(BlocksRequest(101, 1))) is None


async def test_a_block_of_an_unknown_epoch_is_not_held_against_the_peer_and_the_log_says_what_to_do() -> None:
    world = make_world({1: serve(3)}, FakeChain(error=EpochUnknown(1, 1, 0)))
    with structlog.testing.capture_logs() as lines:
        world.sync.request(3, ReplicaId(1))
        await world.finish()
    assert world.links.penalised == []
    assert world.failures == []
    assert world.sync.counters.refused == 1
    assert "let this node join anew" in lines[0]["reason"]

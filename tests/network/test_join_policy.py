"""When a running node leaves off to join: upon proof, and by its head as it is then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from network.join_policy import JoinPolicy
from network.settings import FetchSettings
from tests.ledger.snapshot_source import Source
from tests.network.snapshot_peers import Answer, Peers, serve

EAGER = FetchSettings(join_wait_ms=0, join_blocks_min=20)


@dataclass
class Node:
    """A node whose head and clock move as the test says."""

    source: Source
    height: int
    now_ms: int = 1
    settings: FetchSettings = EAGER
    peers: Peers = field(default_factory=lambda: Peers({}))

    def __post_init__(self) -> None:
        self.peers.answers[1] = serve(self.source)
        self.policy = JoinPolicy(
            self.peers,
            self.source.kit.genesis,
            lambda: self.height,
            settings=self.settings,
            clock_ms=lambda: self.now_ms,
        )

    def commit_before_answers(self) -> None:
        """From now on every peer holds its answer back until one more block is durable here."""
        honest = self.peers.answers[1]
        self.peers.answers[1] = self._hold_back(honest)

    def _hold_back(self, honest: Answer) -> Answer:
        def answer(payload: bytes) -> bytes | None:
            self.height += 1
            return honest(payload)

        return answer

    async def needs_snapshot(self, declined: int = 2, faults_max: int = 1) -> bool:
        """Asked for as long as it looks what there is, and once more."""
        if self.policy.needs_snapshot(declined, faults_max):
            return True
        if self.policy._looking is not None:
            await asyncio.wait((self.policy._looking,))
        return self.policy.needs_snapshot(declined, faults_max)


@pytest.mark.parametrize(
    ("height", "target", "blocks_min", "expected"),
    [
        (0, 19, 20, False),  # Blocks will do.
        (0, 20, 20, True),
        (0, 40, 31, False),  # The snapshot spares too few.
        (1, 5_000, 20, False),
    ],
)
async def test_an_empty_node_joins_where_a_snapshot_spares_it_many_blocks(
    source: Source, height: int, target: int, blocks_min: int, expected: bool
) -> None:
    node = Node(source, height, settings=FetchSettings(join_blocks_min=blocks_min))
    assert await node.policy.is_far_behind(target) is expected
    if expected:  # Once in a while only.
        assert not await node.policy.is_far_behind(target)
        node.now_ms += 10_000
        assert await node.policy.is_far_behind(target)


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (5, True),
        (18, True),
        (19, False),  # Whoever has the snapshot has block 20.
        (29, False),
        (30, False),  # The snapshot does not help.
    ],
)
async def test_a_node_is_stuck_where_a_true_snapshot_begins_above_the_block_that_it_lacks(
    source: Source, height: int, expected: bool
) -> None:
    assert source.verified.base == 20
    assert await Node(source, height).needs_snapshot() is expected


@pytest.mark.parametrize("height", [18, 29])
async def test_l5_a_block_that_commits_while_a_peer_holds_its_manifest_back_sends_nobody_away(
    source: Source, height: int
) -> None:
    node = Node(source, height)
    node.commit_before_answers()
    assert not await node.needs_snapshot()
    assert node.height > height


async def test_l5_an_empty_node_that_gets_a_block_while_it_looks_for_a_snapshot_keeps_it(
    source: Source,
) -> None:
    node = Node(source, 0)
    node.commit_before_answers()
    assert not await node.policy.is_far_behind(20)
    assert node.height > 0


async def test_a_node_is_stuck_only_when_no_whole_batch_was_to_be_had_for_a_while(source: Source) -> None:
    node = Node(source, 5, settings=FetchSettings(sync_blocks_max=8))
    assert not await node.needs_snapshot()
    node.now_ms += 1_999
    assert not await node.needs_snapshot()
    node.height += 8
    assert not await node.needs_snapshot()
    node.now_ms += 1_999
    assert not await node.needs_snapshot()
    assert node.peers.asked == []
    node.now_ms += 1
    assert await node.needs_snapshot()


async def test_l5_single_blocks_do_not_begin_the_wait_anew(source: Source) -> None:
    node = Node(source, 5, settings=FetchSettings(sync_blocks_max=8))
    assert not await node.needs_snapshot()
    for _ in range(4):
        node.now_ms += 500
        node.height += 1
        stuck = await node.needs_snapshot()
    assert stuck


@pytest.mark.parametrize(
    ("declined", "faults_max", "expected"),
    [
        (1, 1, False),
        (2, 1, True),
        (2, 3, True),  # Of the four members of now one may be faulty, of the ten before three.
        (1, 3, False),
        (1, 0, True),
    ],
)
async def test_more_peers_decline_than_may_be_faulty_in_the_smaller_of_the_sets_of_then_and_now(
    source: Source, declined: int, faults_max: int, expected: bool
) -> None:
    assert source.verified.genesis.replica_set.quorum.faults_max == 1
    assert await Node(source, 5).needs_snapshot(declined, faults_max) is expected


async def test_peers_are_asked_for_manifests_once_in_a_while_and_never_after_the_end(source: Source) -> None:
    node = Node(source, 19)
    assert not await node.needs_snapshot()
    asked = len(node.peers.asked)
    assert asked > 0
    assert not await node.needs_snapshot()
    assert len(node.peers.asked) == asked
    node.now_ms += 10_000
    assert not node.policy.needs_snapshot(2, 1)
    looking = node.policy._looking
    await node.policy.close()
    assert looking is not None
    assert looking.cancelled()

"""Catching up: fetches certified blocks that this node misses, in small batches, and makes them durable.

One peer is asked at a time, for one batch, the one that showed the certificate first; then the next. What it
sends is verified before it is applied (`ledger.block_sync`), so a lying peer costs one request and is passed
over, and one that helps as slowly as it may costs one time limit in each round. Where nobody gives a whole
batch, those that had nothing are asked again: one peer that gives little is not all that there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Protocol

import structlog
from msgspec import Meta, Struct

from consensus.certificates import Certificate
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from crypto.encoding import EncodingError, decode_as, encode
from ledger.block_rules import BlockHead
from ledger.block_sync import SYNC_BLOCK_BYTES_MAX, SyncBlock
from ledger.epochs import CurrentEpoch
from ledger.errors import BlockRefused, EpochUnknown
from network.link_ports import LinkRequests
from network.requests import BadRequest, RequestFailed, RequestKind
from network.settings import FetchSettings

_BLOCKS_MAX = 256

_log = structlog.get_logger("network.block_sync")


class BlocksRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one node asks of another."""

    height_from: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    count_max: Annotated[int, Meta(ge=1, le=_BLOCKS_MAX)]


class _Blocks(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    blocks: Annotated[tuple[SyncBlock, ...], Meta(min_length=1, max_length=_BLOCKS_MAX)]
    """One at least: who has none answers so."""


class SyncedChain(Protocol):
    """The part of the ledger that block sync looks at."""

    @property
    def head(self) -> BlockHead: ...

    @property
    def epoch(self) -> CurrentEpoch: ...


class JoinPolicy(Protocol):
    """Whether a snapshot is needed, and to be had: `network.join_policy`."""

    async def is_far_behind(self, target: int) -> bool: ...

    def needs_snapshot(self, declined: int, faults_max: int) -> bool: ...

    async def close(self) -> None: ...


ServeBlocks = Callable[[int, int, int], list[SyncBlock]]
"""Committed blocks from a height up: (height from, count at most, bytes at most)."""

ApplyBlock = Callable[[SyncBlock], Awaitable[bool]]
"""Verify, execute and write the next block; False when it is not the next one any more.

Raises BlockRefused for the peer's fault; anything else must stop the node."""

OnSynced = Callable[[Height, bytes, Certificate, ReplicaSet, Certificate | None], None]
"""Height, digest and certificate of the head; the next height's set, and the certificate that closed the
epoch before it."""


class _Help(IntEnum):
    """What one answer was worth."""

    NONE = 0
    SOME = 1
    """The head moved."""
    BATCH = 2
    """By all that was asked for, or by what fills half an answer."""


@dataclass(slots=True)
class SyncCounters:
    """Since the node's start; for metrics."""

    blocks: int = 0
    refused: int = 0
    """Blocks that peers sent and that were not what the ledger says."""
    unanswered: int = 0


class BlockSync:
    """`consensus.ports.BlockSync`; all methods on the event loop."""

    def __init__(
        self,
        *,
        links: LinkRequests,
        chain: SyncedChain,
        apply: ApplyBlock,
        serve: ServeBlocks,
        on_synced: OnSynced,
        on_failure: Callable[[BaseException], None],
        join_policy: JoinPolicy | None = None,
        on_join: Callable[[], None] = lambda: None,
        settings: FetchSettings | None = None,
    ) -> None:
        """`on_failure` is told what must stop the node: the disk, or results that differ.

        `on_join` is called where blocks alone do not help and `join_policy` has seen a snapshot that does.
        """
        self._links = links
        self._chain = chain
        self._apply = apply
        self._serve = serve
        self._on_synced = on_synced
        self._on_failure = on_failure
        self._join_policy = join_policy
        self._on_join = on_join
        self._settings = settings or FetchSettings()
        self._target = 0
        self._source = ReplicaId(0)
        self._task: asyncio.Task[None] | None = None
        self._declined: set[ReplicaId] = set()
        """Peers that had no block above the head when they were asked last, in this run."""
        self.counters = SyncCounters()

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def request(self, height: int, source: ReplicaId) -> None:
        """Fetch up to `height`, from `source` first; returns at once. A run under way goes on to `height`."""
        self._target = max(self._target, height)
        self._source = source
        if not self.is_running:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._join_policy is not None:
            await self._join_policy.close()

    def on_request(self, replica: ReplicaId, payload: bytes) -> bytes | None:
        """Answer a peer with committed blocks. Raises BadRequest."""
        try:
            request = decode_as(BlocksRequest, payload, size_max=64)
        except EncodingError as error:
            raise BadRequest(f"request for blocks: {error}") from error
        count_max = min(request.count_max, self._settings.sync_blocks_max)
        blocks = self._serve(request.height_from, count_max, self._settings.answer_bytes_max)
        return encode(_Blocks(tuple(blocks))) if blocks else None

    async def _run(self) -> None:
        try:
            # Each peer is asked for one batch in turn, so that none can hold the node back by its own
            # pace; who did not help is asked no more while others give whole batches. When nobody helps,
            # the replica asks again in its own time.
            if self._join_policy is not None and await self._join_policy.is_far_behind(self._target):
                self._on_join()
                return
            self._declined.clear()
            useless: set[ReplicaId] = set()
            while self._is_behind:
                help_max = await self._ask_in_turn(useless)
                if self._is_behind and self._is_stuck(help_max):
                    self._on_join()
                    return
                if help_max is _Help.NONE:
                    return
                if help_max is _Help.SOME:
                    useless.clear()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._on_failure(error)

    @property
    def _is_behind(self) -> bool:
        return self._chain.head.height < self._target

    async def _ask_in_turn(self, useless: set[ReplicaId]) -> _Help:
        """The most that one peer helped; those that did not help become useless."""
        help_max = _Help.NONE
        for peer in [peer for peer in self._order_peers() if peer not in useless]:
            if not self._is_behind:
                break
            helped = await self._take_from(peer)
            if helped is _Help.NONE:
                useless.add(peer)
            help_max = max(help_max, helped)
        return help_max

    def _is_stuck(self, help_max: _Help) -> bool:
        """After a round in which some peer did not have the next block, whoever else gave it."""
        faults_max = self._chain.epoch.replica_set.quorum.faults_max
        declined = len(self._declined)
        # Of a set that has shrunk meanwhile fewer may be faulty, which the policy finds out.
        if self._join_policy is None or not declined or (help_max is _Help.BATCH and declined <= faults_max):
            return False
        return self._join_policy.needs_snapshot(declined, faults_max)

    async def _take_from(self, peer: ReplicaId) -> _Help:
        """Ask for one batch of blocks, and apply what comes."""
        head = self._chain.head.height
        count = min(self._settings.sync_blocks_max, self._target - head)
        try:
            answer = await self._links.request(
                peer,
                RequestKind.BLOCKS,
                encode(BlocksRequest(head + 1, count)),
                self._settings.sync_timeout_ms,
            )
        except RequestFailed:
            self.counters.unanswered += 1
            return _Help.NONE
        if answer is None:
            self._declined.add(peer)
            return _Help.NONE
        helped = _Help.SOME
        try:
            blocks = self._decode(answer, count)
            for block in blocks:
                if await self._apply(block):
                    self.counters.blocks += 1
            if len(blocks) == count or len(answer) >= self._settings.answer_bytes_max // 2:
                helped = _Help.BATCH
        except EpochUnknown as error:
            # Not held against the peer: after a recovery it is the one that is right.
            self.counters.refused += 1
            _log.warning("epoch unknown", replica=peer, reason=error.advice)
        except (EncodingError, BlockRefused) as error:
            self.counters.refused += 1
            _log.warning("block refused", replica=peer, height=self._chain.head.height + 1, reason=str(error))
            self._links.penalise(peer, f"block sync: {error}")
        if not self._report(head):
            return _Help.NONE
        self._declined.discard(peer)
        return helped

    def _decode(self, answer: bytes, count_max: int) -> tuple[SyncBlock, ...]:
        """Raises EncodingError, or BlockRefused for more blocks than were asked for.

        More would take the ledger further ahead of the replica than was asked for.
        """
        size_max = SYNC_BLOCK_BYTES_MAX + self._settings.answer_bytes_max
        blocks = decode_as(_Blocks, answer, size_max=size_max).blocks
        if len(blocks) > count_max:
            raise BlockRefused("count", len(blocks), f"{count_max} at most, as asked for")
        return blocks

    def _report(self, height_before: int) -> bool:
        head = self._chain.head
        if head.height == height_before or head.certificate is None:
            return False
        epoch = self._chain.epoch
        self._on_synced(Height(head.height), head.digest, head.certificate, epoch.replica_set, epoch.closing)
        return True

    def _order_peers(self) -> Iterator[ReplicaId]:
        connected = self._links.connected
        if self._source in connected:
            yield self._source
        yield from (peer for peer in connected if peer != self._source)

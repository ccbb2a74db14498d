"""Fetching a snapshot: from all peers that have it at once, every part verified before it is kept.

What is verified is on the disk at once, so a node that is stopped amid joining goes on where it was. A peer
that sends anything that is not what the certified header commits to is asked no more; what was asked of it is
asked of the others. So one honest peer with the snapshot is enough for its parts, however the others lie, are
silent or slow. Which of the snapshots on offer to take is for `network.joining` to choose: a true manifest
proves the ledger, not that anybody gives the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from consensus.replica_set import ReplicaId
from crypto.encoding import EncodingError, decode_as, encode
from ledger.chunk_file import CHUNK_BYTES_MAX, ChunkFile, ChunkKind, ChunkName
from ledger.errors import SnapshotRefused
from ledger.genesis import Genesis
from ledger.snapshot import MANIFEST_BYTES_MAX, VerifiedManifest, decode_manifest, verify_manifest
from ledger.snapshot_install import verify_block
from ledger.state_chunk import decode_state_chunk
from network.link_ports import LinkRequests
from network.requests import RequestFailed, RequestKind
from network.settings import FetchSettings
from network.snapshot_serving import MANIFEST, PARTS_MAX, SnapshotAnswer, SnapshotRequest

FAILURES_MAX: Final = 8
"""Requests in a row that one peer may leave without an answer before it is asked no more."""
PAUSE_SECONDS: Final = 0.25
"""Before a peer that gave nothing is asked again: it may have been asked too often."""

TAKE_OVER_SECONDS: Final = 2.0
"""How long a peer may be alone with the last parts before others are asked for them too."""

MANIFESTS_AT_ONCE_MAX: Final = 8
"""Peers asked for a manifest at a time: what they send is not verified before it is whole."""
MANIFEST_SECONDS: Final = 5.0
"""How long one peer may take for its manifest."""
FIND_SECONDS: Final = 30.0
"""How long all peers may take together; then what has come by then must do."""
PIECES_MAX: Final = 512
"""Answers that one part may come in: every one but the last has its share of the bytes."""

_log = structlog.get_logger("network.snapshots")


class SnapshotUnavailable(Exception):
    """No peer is left that gives the parts that are missing: wait, and look for a newer snapshot."""


@dataclass(slots=True)
class SnapshotCounters:
    """Of the fetch under way; for the log and readiness."""

    parts: int = 0
    """Parts that are here and verified."""
    parts_expected: int = 0
    parts_fetched: int = 0
    """Parts that this fetch has brought."""
    refused: int = 0
    """Answers that were not what the ledger says."""
    unanswered: int = 0

    @property
    def fetched_percent(self) -> int:
        """What this fetch has brought, of the parts that were missing when it began."""
        missing = self.parts_expected - self.parts + self.parts_fetched
        return 100 * self.parts_fetched // max(1, missing)


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot that peers say they have; its manifest is verified, that they have the parts is not."""

    snapshot: VerifiedManifest
    peers: set[ReplicaId]

    @property
    def faults_max(self) -> int:
        """Peers that may be faulty in the newest replica set that the manifest names."""
        changes = self.snapshot.manifest.epoch_changes
        newest = changes[-1].replica_set if changes else self.snapshot.genesis.replica_set
        return newest.quorum.faults_max


class SnapshotSync:
    """Fetches for one joining node; all methods on the event loop."""

    def __init__(
        self, links: LinkRequests, genesis: Genesis, *, settings: FetchSettings | None = None
    ) -> None:
        self._links = links
        self._genesis = genesis
        self._settings = settings or FetchSettings()
        self._useless: set[ReplicaId] = set()
        self.counters = SnapshotCounters()

    async def find_offers(self, peers: Sequence[ReplicaId], *, height: int = 0) -> list[Offer]:
        """What these peers offer for `height`, 0 for the newest that each has; after FIND_SECONDS at most."""
        offers: dict[bytes, Offer] = {}
        turns = asyncio.Semaphore(MANIFESTS_AT_ONCE_MAX)

        async def ask(peer: ReplicaId) -> None:
            async with turns:
                snapshot = await self._ask_manifest(peer, height)
            if snapshot is not None:
                # Not by the whole manifest: each node may hold the votes of another quorum.
                header = snapshot.manifest.head.header
                offers.setdefault(header, Offer(snapshot, set())).peers.add(peer)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIND_SECONDS):
                # In any order, so that nobody can count on keeping the others from their turn.
                await asyncio.gather(*map(ask, random.sample(peers, len(peers))))
        return list(offers.values())

    async def fetch(self, snapshot: VerifiedManifest, chunks: ChunkFile) -> None:
        """Return when every part is in `chunks`, verified. Raises SnapshotUnavailable, OSError."""
        history = [(ChunkKind.HISTORY, number) for number in range(snapshot.history_chunks)]
        state = [(ChunkKind.STATE, number) for number in snapshot.list_subtrees()]
        # Receipts of a block are verified by the leaf hashes, so these come first.
        blocks = [(ChunkKind.BLOCK, height) for height in range(snapshot.base, snapshot.height + 1)]
        self._useless.clear()
        expected = (*history, *state, *blocks)
        here = sum(name in chunks for name in expected)
        self.counters = SnapshotCounters(parts=here, parts_expected=len(expected))
        for names in ((*history, *state), blocks):
            missing = [name for name in names if name not in chunks]
            await _Phase(self, snapshot, chunks, missing).run()
            await asyncio.to_thread(chunks.sync)

    # What one peer is asked for

    async def ask(self, peer: ReplicaId, request: SnapshotRequest) -> SnapshotAnswer:
        """Raises RequestFailed, SnapshotRefused for an answer that is none."""
        payload = await self._links.request(
            peer, RequestKind.SNAPSHOT, encode(request), self._settings.sync_timeout_ms
        )
        if payload is None:
            raise RequestFailed(f"replica {peer}: nothing of this snapshot, or not now")
        size_max = self._settings.answer_bytes_max + 65_536
        try:
            answer = decode_as(SnapshotAnswer, payload, size_max=size_max)
        except EncodingError as error:
            raise SnapshotRefused("answer", str(error), "parts of a snapshot") from error
        if len(answer.parts) > max(1, len(request.numbers)) or (answer.left and len(answer.parts) > 1):
            raise SnapshotRefused("answer", f"{len(answer.parts)} parts", "those asked for")
        return answer

    async def ask_whole(self, peer: ReplicaId, request: SnapshotRequest, size_max: int) -> SnapshotAnswer:
        """The answer with its last part complete, asked for piece by piece. Raises like `ask`."""
        answer = await self.ask(peer, request)
        if not answer.left:
            return answer
        pieces, height, size = [answer.parts[0]], answer.height, len(answer.parts[0])
        expected = size + answer.left
        if expected > size_max:
            raise SnapshotRefused("answer", f"{expected} bytes", f"at most {size_max}")
        share = -(-expected // PIECES_MAX)
        while answer.left:
            if len(answer.parts[0]) < share:
                raise SnapshotRefused("answer", f"{len(answer.parts[0])} bytes", f"{share} in each piece")
            rest = SnapshotRequest(height, request.kind, request.numbers[:1], size)
            answer = await self.ask(peer, rest)
            pieces.append(answer.parts[0])
            size += len(pieces[-1])
            if size + answer.left != expected:
                raise SnapshotRefused("answer", f"{size + answer.left} bytes", f"{expected} bytes")
        return SnapshotAnswer(height, (b"".join(pieces),), 0)

    def drop(self, peer: ReplicaId, error: SnapshotRefused) -> None:
        """A peer that lied is asked no more, and counted against."""
        self.counters.refused += 1
        self._useless.add(peer)
        _log.warning("snapshot part refused", replica=peer, reason=str(error))
        self._links.penalise(peer, f"snapshot: {error}")

    def list_useful(self) -> list[ReplicaId]:
        return [peer for peer in self._links.connected if peer not in self._useless]

    async def _ask_manifest(self, peer: ReplicaId, height: int) -> VerifiedManifest | None:
        request = SnapshotRequest(height=height, kind=MANIFEST, numbers=(), offset=0)
        try:
            async with asyncio.timeout(MANIFEST_SECONDS):
                answer = await self.ask_whole(peer, request, MANIFEST_BYTES_MAX)
            return verify_manifest(decode_manifest(answer.parts[0]), self._genesis)
        except SnapshotRefused as error:
            self.drop(peer, error)
        except (RequestFailed, TimeoutError):
            self.counters.unanswered += 1
        return None


class _Phase:
    """Parts that may be fetched in any order, by one worker for each peer."""

    def __init__(
        self, sync: SnapshotSync, snapshot: VerifiedManifest, chunks: ChunkFile, missing: list[ChunkName]
    ) -> None:
        self._sync = sync
        self._snapshot = snapshot
        self._chunks = chunks
        self._left = set(missing)
        """Parts that are not here yet."""
        self._waiting = deque(missing)
        """Those of them that nobody is asked for now."""
        self._asked: dict[ReplicaId, list[ChunkName]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Raises SnapshotUnavailable when the peers are used up before the parts are here."""
        workers = {asyncio.create_task(self._work(peer)) for peer in self._sync.list_useful()}
        pending = workers
        try:
            while pending and self._left:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for worker in done:
                    worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._left:
            raise SnapshotUnavailable(f"{len(self._left)} parts of height {self._snapshot.height}")

    async def _work(self, peer: ReplicaId) -> None:
        """Ask one peer for parts until there are none left, or it proves useless."""
        failures = 0
        while self._left and failures < FAILURES_MAX:
            names = self._take() or await self._take_over(peer)
            if not names:
                continue
            self._asked[peer] = names
            try:
                await self._fetch(peer, names)
                failures = 0
            except RequestFailed:
                failures += 1
                self._sync.counters.unanswered += 1
            except SnapshotRefused as error:
                self._sync.drop(peer, error)
                return
            finally:
                del self._asked[peer]
                # What others were asked for as well may be here, or with them.
                elsewhere = {name for names in self._asked.values() for name in names}
                self._waiting.extendleft(
                    name for name in reversed(names) if name in self._left and name not in elsewhere
                )
                self._changed.set()
            if failures:
                await asyncio.sleep(PAUSE_SECONDS)

    def _take(self) -> list[ChunkName]:
        """Some parts of one kind, few enough that the other peers have work too."""
        share = -(-len(self._waiting) // (2 * max(1, len(self._sync.list_useful()))))
        names: list[ChunkName] = []
        while self._waiting and len(names) < min(share, PARTS_MAX):
            if names and self._waiting[0][0] != names[0][0]:
                break
            names.append(self._waiting.popleft())
        return names

    async def _take_over(self, peer: ReplicaId) -> list[ChunkName]:
        """With nothing left to ask for: a part that another peer has been asked for and does not give."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TAKE_OVER_SECONDS):
                await self._changed.wait()
                return []
        asked = [name for other, names in self._asked.items() if other != peer for name in names]
        left = [name for name in asked if name in self._left]
        return left[:1]

    async def _fetch(self, peer: ReplicaId, names: list[ChunkName]) -> None:
        """Keep what the peer gives of these. Raises RequestFailed, SnapshotRefused, OSError."""
        kind = names[0][0]
        numbers = tuple(number for _, number in names)
        request = SnapshotRequest(self._snapshot.height, kind, numbers, 0)
        answer = await self._sync.ask_whole(peer, request, CHUNK_BYTES_MAX)
        for number, part in zip(numbers, answer.parts, strict=False):
            if (kind, number) not in self._left:
                continue  # Another peer was quicker.
            self._verify(kind, number, part)
            self._chunks.append(kind, number, part)
            self._left.discard((kind, number))
            self._sync.counters.parts += 1
            self._sync.counters.parts_fetched += 1

    def _verify(self, kind: ChunkKind, number: int, part: bytes) -> None:
        """Raises SnapshotRefused."""
        snapshot = self._snapshot
        match kind:
            case ChunkKind.STATE:
                snapshot.verify_state_node(number, decode_state_chunk(part, number, snapshot.plan).node)
            case ChunkKind.HISTORY:
                snapshot.verify_history_chunk(number, part)
            case ChunkKind.BLOCK:
                verify_block(snapshot, self._chunks, number, part)

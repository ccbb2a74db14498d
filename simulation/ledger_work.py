"""What a node's ledger does on behalf of consensus: build, fetch, validate, commit, sync. All takes time.

Invariant: one thing is written at a time, in the order asked for, whether it comes from consensus or from
block sync; a block is written once. Whatever runs here dies with the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from consensus.certificates import InvalidCertificate
from consensus.effects import Build, CommitBlock, Validate
from consensus.events import BlockDurable, ChainSynced, Event, ProposalBuilt, ProposalValidated
from consensus.ports import Proposal
from consensus.replica_set import Height, ReplicaId, ReplicaSet
from simulation.disk import Disk, StoredBlock
from simulation.frames import (
    BlocksRequest,
    BlocksResponse,
    BodiesRequest,
    BodiesResponse,
    Frame,
    SyncedBlock,
)
from simulation.light_ledger import SimulatedLedger

SYNC_BLOCKS_MAX = 8
FETCH_ATTEMPTS_MAX = 4
FETCH_TIMEOUT_US = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """What things take on a node, in microseconds; each is drawn up to its bound."""

    sync_us_max: int = 2_000
    execute_us_max: int = 3_000
    commit_us_max: int = 4_000


class NodeServices(Protocol):
    """What the work needs from its node."""

    @property
    def replica_id(self) -> ReplicaId: ...

    @property
    def peers(self) -> tuple[ReplicaId, ...]: ...

    def post(self, event: Event) -> None: ...

    def later(self, delay_us: int, callback: Callable[[], None]) -> None:
        """Unless the process dies before."""

    def send_frame(self, receiver: ReplicaId, frame: Frame) -> None: ...

    def read_clock(self) -> int:
        """The node's own wall clock, which may be off."""

    def meets_crash(self, where: str) -> bool: ...

    def meets_disk_failure(self) -> bool: ...

    def on_block(self, block: StoredBlock, state_root: bytes) -> None: ...


class LedgerWork:
    """The work of one process; see the module's docstring."""

    def __init__(
        self,
        node: NodeServices,
        *,
        ledger: SimulatedLedger,
        disk: Disk,
        random: Random,
        durations: Durations,
        verify_block: Callable[[SyncedBlock, bytes, ReplicaSet], None],
    ) -> None:
        """`verify_block` raises InvalidCertificate unless a quorum of the set committed this digest."""
        self._node = node
        self._ledger = ledger
        self._disk = disk
        self._random = random
        self._durations = durations
        self._verify_block = verify_block
        self._waiting: dict[bytes, tuple[Validate, int]] = {}
        self._writes: deque[Callable[[], None]] = deque()
        self._is_writing = False
        self._synced_sets: dict[int, ReplicaSet] = {}
        """The sets that blocks of the sync brought, by the height that closed the epoch before."""

    # Build and validate

    def build(self, action: Build) -> None:
        self._node.later(self._draw(self._durations.execute_us_max), lambda: self._finish_build(action))

    def _finish_build(self, action: Build) -> None:
        proposal = None
        next_slot = (self._ledger.epoch.replica_set.epoch, self._ledger.head.height + 1)
        if next_slot == (action.epoch, action.height):
            proposal = self._ledger.build(
                proposer=self._node.replica_id,
                wall_ms=self._node.read_clock(),
                may_be_empty=action.may_be_empty,
            )
        digest = None if proposal is None else self._ledger.compute_digest(proposal)
        self._node.post(
            ProposalBuilt(
                epoch=action.epoch, height=action.height, view=action.view, proposal=proposal, digest=digest
            )
        )

    def validate(self, action: Validate) -> None:
        self._waiting[action.digest] = (action, 0)
        self._fetch(action.digest)

    def discard(self, digest: bytes) -> None:
        self._waiting.pop(digest, None)

    def _fetch(self, digest: bytes) -> None:
        """Ask for missing bodies, the source first, then others; execute once none is missing."""
        if digest not in self._waiting:
            return
        action, attempt = self._waiting[digest]
        missing = self._ledger.find_missing(action.proposal)
        if not missing or attempt == FETCH_ATTEMPTS_MAX:
            del self._waiting[digest]
            delay_us = self._draw(self._durations.execute_us_max)
            self._node.later(delay_us, lambda: self._finish_validate(action))
            return
        self._waiting[digest] = (action, attempt + 1)
        peers = self._node.peers
        if attempt == 0 and action.source in peers:
            self._node.send_frame(action.source, BodiesRequest(missing))
        elif peers:
            self._node.send_frame(self._random.choice(peers), BodiesRequest(missing))
        self._node.later(FETCH_TIMEOUT_US, lambda: self._fetch(digest))

    def on_bodies(self, response: BodiesResponse) -> None:
        """Bodies that were asked for, from whomever."""
        self._ledger.keep_bodies(response.bodies)
        for digest, (action, _) in tuple(self._waiting.items()):
            if not self._ledger.find_missing(action.proposal):
                self._fetch(digest)

    def _finish_validate(self, action: Validate) -> None:
        ok, has_diverged = False, False
        if self._ledger.head.height + 1 == action.height:
            validation = self._ledger.validate(action.proposal, action.freshness)
            ok, has_diverged = validation.ok, validation.has_diverged
        self._node.post(
            ProposalValidated(
                epoch=action.epoch,
                height=action.height,
                view=action.view,
                digest=action.digest,
                ok=ok,
                has_diverged=has_diverged,
            )
        )

    # Commit

    def commit(self, action: CommitBlock) -> None:
        self._write(lambda: self._finish_commit(action))

    def _finish_commit(self, action: CommitBlock) -> None:
        height, epoch = Height(action.certificate.height), self._ledger.epoch
        following = self._synced_sets.get(height)
        if height > self._ledger.head.height:
            # One write batch: a crash leaves all of it or nothing, and nobody knows which.
            is_kept = self._random.random() < 0.5
            if not is_kept and self._node.meets_crash("while_committing"):
                return
            block = self._ledger.commit(action.proposal, action.certificate)
            self._node.on_block(block, self._ledger.state_root)
            if is_kept and self._node.meets_crash("while_committing"):
                return
            present = self._ledger.epoch
            following = None if present == epoch else present.replica_set
        self._node.post(BlockDurable(height=height, digest=action.digest, replica_set=following))

    def _write(self, job: Callable[[], None]) -> None:
        self._writes.append(job)
        if not self._is_writing:
            self._next_write()

    def _next_write(self) -> None:
        self._is_writing = bool(self._writes)
        if self._is_writing:
            job = self._writes.popleft()
            self._node.later(self._draw(self._durations.commit_us_max), lambda: self._finish_write(job))

    def _finish_write(self, job: Callable[[], None]) -> None:
        if self._node.meets_disk_failure():
            return
        job()
        self._next_write()

    # Block sync

    def request_sync(self, source: ReplicaId) -> None:
        if source in self._node.peers:
            self._node.send_frame(source, BlocksRequest(self._ledger.head.height + 1))

    def on_blocks_request(self, sender: ReplicaId, request: BlocksRequest) -> None:
        height = request.height_from
        blocks = tuple(
            SyncedBlock(
                header=block.header, bodies=block.bodies, hashes=block.hashes, certificate=certificate
            )
            for block in self._disk.blocks[height : height + SYNC_BLOCKS_MAX]
            if (certificate := block.certificate) is not None
        )
        self._node.send_frame(sender, BlocksResponse(height, blocks))

    def on_blocks(self, response: BlocksResponse) -> None:
        if response.blocks:
            self._write(lambda: self._apply_synced(response))

    def _apply_synced(self, response: BlocksResponse) -> None:
        """Verify and apply what fits on the head, in order; stop at the first that does not hold."""
        synced: StoredBlock | None = None
        for index, block in enumerate(response.blocks):
            if response.height_from + index != self._ledger.head.height + 1:
                continue
            proposal = Proposal(block.header, block.hashes)
            try:
                replica_set = self._ledger.epoch.replica_set
                self._verify_block(block, self._ledger.compute_digest(proposal), replica_set)
            except (ValueError, InvalidCertificate):
                break
            self._ledger.keep_bodies(block.bodies)
            if not self._ledger.validate(proposal, None).ok:
                break
            synced = self._ledger.commit(proposal, block.certificate)
            if self._ledger.epoch.replica_set != replica_set:
                self._synced_sets[synced.height] = self._ledger.epoch.replica_set
            self._node.on_block(synced, self._ledger.state_root)
        if synced is not None and synced.certificate is not None:
            epoch = self._ledger.epoch
            event = ChainSynced(
                height=Height(synced.height),
                digest=synced.digest,
                certificate=synced.certificate,
                replica_set=epoch.replica_set,
                closing=epoch.closing,
            )
            # The replica hears of it later: until then it works at a height that is durable already.
            self._node.later(self._draw(self._durations.commit_us_max), lambda: self._node.post(event))

    def _draw(self, bound_us: int) -> int:
        return self._random.randrange(bound_us)

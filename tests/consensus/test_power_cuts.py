"""Four replicas with real drivers and journals over a memory network; one loses power at every sync point.

Whatever was not synced is lost. Afterwards no replica may ever have signed two things for one place, nothing
committed may be lost, and the ledger must go on (rules P1, P2, P3, P5 and V10).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consensus.certificates import Certificate, Phase
from consensus.driver import Driver, DriverSettings
from consensus.head import Head
from consensus.journal import Journal
from consensus.journal_entries import decode_entries
from consensus.messages import PrePrepare, ViewChange, Vote, decode_message
from consensus.ports import Freshness, Proposal, Validation
from consensus.replica import Replica
from consensus.replica_set import Epoch, Height, Member, ReplicaId, ReplicaSet
from consensus.settings import ReplicaSettings
from consensus.startup import Startup
from crypto.signatures import SigningKey, verify_signature

CHAIN_ID = b"c" * 32
KEYS = tuple(SigningKey(bytes([number + 1]) * 32) for number in range(4))
REPLICA_SET = ReplicaSet(
    0, tuple(Member(number, key.public_key, b"i" * 16) for number, key in enumerate(KEYS))
)
SETTINGS = ReplicaSettings(
    view_timeout_ms=150,
    view_timeout_ms_max=4_000,
    status_interval_ms=30,
    notice_interval_ms=10,
    build_retry_ms=20,
    sync_retry_ms=100,
    rejoin_timeout_ms=1_000,
    idle_block_interval_ms=200,
)
GENESIS_DIGEST = b"g" * 32


class PowerCut(BaseException):
    """The victim's process runs no further."""


@dataclass
class Disk:
    """One node's durable ledger: what survives its process."""

    blocks: list[tuple[Proposal, bytes, Certificate]] = field(default_factory=list)

    @property
    def head(self) -> Head:
        if not self.blocks:
            return Head(height=Height(0), digest=GENESIS_DIGEST, certificate=None)
        _, digest, certificate = self.blocks[-1]
        return Head(height=Height(len(self.blocks)), digest=digest, certificate=certificate)


def compute_digest(proposal: Proposal) -> bytes:
    return hashlib.sha256(proposal.header + b"".join(proposal.transaction_hashes)).digest()


class World:
    """The memory network, the clients, and a watcher of everything that was ever signed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disks = [Disk() for _ in KEYS]
        self.pending: dict[bytes, None] = {}
        self.nodes: dict[int, Node] = {}
        self.signed: dict[tuple[object, ...], bytes] = {}
        self.conflicts: list[str] = []

    def watch(self, message: object) -> None:
        if isinstance(message, PrePrepare):
            place: tuple[object, ...] = (message.primary, message.height, message.view, Phase.PRE_PREPARE)
            self._note(place, compute_digest(message.proposal))
        elif isinstance(message, Vote):
            self._note((message.replica, message.height, message.view, message.phase), message.digest)
        elif isinstance(message, ViewChange):
            self._note((message.replica, message.view, "view change"), message.signature)

    def _note(self, place: tuple[object, ...], content: bytes) -> None:
        if self.signed.setdefault(place, content) != content:
            self.conflicts.append(str(place))

    def submit(self, transaction: bytes) -> None:
        self.pending[transaction] = None
        self.tell_pending()

    def tell_pending(self) -> None:
        for node in self.nodes.values():
            node.driver.post_oldest_pending(next(iter(self.pending), None))

    def is_committed(self, number: int, transaction: bytes) -> bool:
        return any(transaction in block.transaction_hashes for block, _, _ in self.disks[number].blocks)


class Node:
    """One replica's process: gone when it stops, its disk stays."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.directory = world.directory / f"journal-{number}"
        self.journal = Journal.open(self.directory)
        self.writer = ThreadPoolExecutor(1)
        self.bodies: dict[bytes, bytes] = {}
        content = decode_entries(self.journal.entries)
        replica = Replica(
            settings=SETTINGS,
            chain_id=CHAIN_ID,
            replica_id=ReplicaId(number),
            public_key=KEYS[number].public_key,
            signer=KEYS[number].sign,
            verify=verify_signature,
            replica_set=REPLICA_SET,
            head=self.disk.head,
            compute_digest=compute_digest,
            journal=content.records,
            journal_missing=self.journal.is_missing,
        )
        self.driver = Driver(
            replica=replica,
            replica_id=ReplicaId(number),
            application=self,
            transport=self,
            block_sync=self,
            relay=self,
            journal=self.journal,
            writer=self.writer,
            settings=DriverSettings(tick_interval_ms=5),
        )
        world.nodes[number] = self
        self.driver.post_oldest_pending(next(iter(world.pending), None))
        self.task = asyncio.create_task(self.driver.run())

    @property
    def disk(self) -> Disk:
        return self.world.disks[self.number]

    async def stop(self) -> None:
        self.world.nodes.pop(self.number, None)
        self.driver.stop()
        with contextlib.suppress(PowerCut):
            await self.task
        self.writer.shutdown()
        self.journal.close()

    # Transport

    def send(self, replica: ReplicaId, message: bytes) -> None:
        self.world.watch(decode_message(message))
        peer = self.world.nodes.get(replica)
        if peer is not None:
            peer.driver.post_message(ReplicaId(self.number), message)

    def broadcast(self, message: bytes) -> None:
        for number in range(len(KEYS)):
            if number != self.number:
                self.send(ReplicaId(number), message)

    def penalise(self, replica: ReplicaId, reason: str) -> None:
        self.world.conflicts.append(f"{self.number} penalises {replica}: {reason}")

    # Block sync and relay

    def request(self, height: int, source: ReplicaId) -> None:
        for number in (source, *self.world.nodes):
            blocks = self.world.disks[number].blocks
            if len(blocks) > len(self.disk.blocks):
                self.disk.blocks[:] = blocks
                head = self.disk.head
                assert head.certificate is not None
                self.driver.post_chain_synced(head.height, head.digest, head.certificate, REPLICA_SET)
                return

    def forward_oldest(self, primary: ReplicaId) -> None:
        pass

    # Application

    def compute_digest(self, proposal: Proposal) -> bytes:
        return compute_digest(proposal)

    async def build(
        self, *, epoch: Epoch, height: Height, proposer: ReplicaId, wall_ms: int, may_be_empty: bool
    ) -> Proposal | None:
        transactions = tuple(self.world.pending)[:3]
        if not transactions and not may_be_empty:
            return None
        # Time in the header: what is proposed anew differs from what was forgotten.
        return Proposal(self._make_header() + str(wall_ms).encode(), transactions)

    async def validate(
        self, proposal: Proposal, *, height: Height, source: ReplicaId, freshness: Freshness | None
    ) -> Validation:
        return Validation(ok=proposal.header.startswith(self._make_header()))

    def get_bodies(self, proposal: Proposal) -> Sequence[bytes]:
        return proposal.transaction_hashes

    def forget_through(self, height: Height) -> None:
        pass

    def restore(self, proposal: Proposal, bodies: Sequence[bytes]) -> None:
        pass

    async def commit(self, proposal: Proposal, certificate: Certificate) -> None:
        if certificate.height == len(self.disk.blocks) + 1:
            self.disk.blocks.append((proposal, certificate.digest, certificate))
            for transaction in proposal.transaction_hashes:
                self.world.pending.pop(transaction, None)
            self.world.tell_pending()

    def discard(self, proposal: Proposal) -> None:
        pass

    def note_time(self, wall_ms: int) -> None:
        pass

    def _make_header(self) -> bytes:
        return b"%d %s " % (len(self.disk.blocks) + 1, self.disk.head.digest.hex().encode())


class Power:
    """Counts the victim's syncs and cuts its power at one of them; then drops what was not synced."""

    def __init__(self, directory: Path, sync_point: int, *, is_cut_before: bool) -> None:
        self._directory, self._sync_point, self._is_cut_before = directory, sync_point, is_cut_before
        self._sizes: dict[str, int] = {}
        self.syncs = 0
        self.is_cut = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, real: object) -> object:
        def sync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if not path.startswith(str(self._directory)) or self.is_cut:
                return
            self.syncs += 1
            if self.syncs == self._sync_point and self._is_cut_before:
                self.is_cut = True
                raise PowerCut
            self._sizes[path] = os.fstat(descriptor).st_size
            if self.syncs == self._sync_point:
                self.is_cut = True
                raise PowerCut

        return sync

    def drop_unsynced(self) -> None:
        for path, size in self._sizes.items():
            if Path(path).is_file():
                os.truncate(path, size)


async def run_with_power_cut(world: World, power: Power, victim: int) -> None:
    """Transactions one after the other; the victim loses power, comes back, and all ends well."""
    for number in range(len(KEYS)):
        Journal.create(world.directory / f"journal-{number}")
    nodes = [Node(world, number) for number in range(len(KEYS))]

    async def until(condition: Callable[[], bool]) -> None:
        """Wait, and bring the victim back whenever its power was cut: that may be after the last block."""
        async with asyncio.timeout(60):
            while not condition():
                if nodes[victim].task.done():
                    await nodes[victim].stop()
                    power.drop_unsynced()
                    nodes[victim] = Node(world, victim)
                await asyncio.sleep(0.005)

    transactions = [hashlib.sha256(bytes([number])).digest() for number in range(6)]
    for transaction in transactions:
        world.submit(transaction)
        await until(lambda t=transaction: sum(world.is_committed(n, t) for n in range(4)) >= 3)  # type: ignore[misc]
    await until(lambda: all(world.is_committed(n, t) for n in range(4) for t in transactions))
    for node in nodes:
        await node.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", [0, 1], ids=["primary", "backup"])
@pytest.mark.parametrize("is_cut_before", [True, False], ids=["before", "after"])
async def test_rules_P1_P2_P3_P5_power_cut_at_every_sync_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: int, is_cut_before: bool
) -> None:
    cuts = 0
    for sync_point in range(1, 15):
        directory = tmp_path / str(sync_point)
        directory.mkdir()
        world = World(directory)
        power = Power(directory / f"journal-{victim}", sync_point + 2, is_cut_before=is_cut_before)
        with monkeypatch.context() as patch:
            power.install(patch)
            await run_with_power_cut(world, power, victim)
        assert world.conflicts == []
        chains = [[digest for _, digest, _ in disk.blocks] for disk in world.disks]
        shortest = min(map(len, chains))
        assert all(chain[:shortest] == chains[0][:shortest] for chain in chains)
        committed = [item for block, _, _ in world.disks[0].blocks for item in block.transaction_hashes]
        assert len(committed) == len(set(committed)) == 6
        cuts += power.is_cut
    assert cuts >= 10


@pytest.mark.slow
async def test_the_watcher_sees_a_replica_that_forgets_its_journal_and_votes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this the tests above could pass by looking away."""
    monkeypatch.setattr(Startup, "is_decided", True)
    monkeypatch.setattr(Startup, "may_vote", lambda self, height: True)
    conflicts: list[str] = []
    for sync_point in range(1, 8):
        directory = tmp_path / str(sync_point)
        directory.mkdir()
        world = World(directory)
        power = Power(directory / "journal-0", sync_point + 2, is_cut_before=False)
        with monkeypatch.context() as patch:
            power.install(patch)
            patch.setattr(Journal, "_load", forget)
            with contextlib.suppress(TimeoutError):
                await run_with_power_cut(world, power, 0)
        for node in tuple(world.nodes.values()):
            await node.stop()
        conflicts += world.conflicts
    assert conflicts


_load = Journal._load


def forget(journal: Journal, path: Path) -> None:
    _load(journal, path)
    journal.entries = ()

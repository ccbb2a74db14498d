"""Which ledger a run has: its genesis, its transactions, and how a node opens its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from msgspec.structs import replace

from consensus.replica_set import ReplicaSet
from crypto.encoding import encode
from crypto.hashing import compute_digest
from simulation.cast import LOSSES
from simulation.disk import Disk, StoredBlock
from simulation.light_epochs import encode_change, find_change
from simulation.light_ledger import LightLedger, SimulatedLedger, create_genesis_block, decode_light_header
from simulation.settings import SimulationSettings

LightLedgerFactory = Callable[[Disk, SimulationSettings], LightLedger]


@dataclass(frozen=True, slots=True)
class SimulatedTransaction:
    """What a client sends, and the hash that names it."""

    signed_hash: bytes
    body: bytes


class LedgerKit(Protocol):
    """Everything about the ledger that is the same for all nodes of a run."""

    @property
    def chain_id(self) -> bytes: ...

    @property
    def genesis(self) -> StoredBlock: ...

    @property
    def genesis_root(self) -> bytes:
        """The state root at height 0."""

    @property
    def clock_jumps_ms(self) -> tuple[int, ...]:
        """By how much clocks may jump without making every transaction expire."""

    @property
    def losses(self) -> tuple[str, ...]:
        """What of `cast.LOSSES` can befall the disk of a node with this ledger."""

    def open(self, disk: Disk) -> SimulatedLedger: ...

    def delay_header(self, header: bytes) -> bytes:
        """The header one millisecond later, as valid as before."""

    def spoil_header(self, header: bytes) -> bytes:
        """The header with results that execution does not lead to."""

    def create_transaction(self, number: int) -> SimulatedTransaction: ...

    @property
    def rotates_keys(self) -> bool:
        """Whether a change of the set may give a replica another key, or add one that is no founder."""

    def create_change(self, present: ReplicaSet, following: ReplicaSet, height: int) -> SimulatedTransaction:
        """What makes `following` the next set, above `height` or above the block that holds it."""

    def find_change(self, block: StoredBlock, epoch: int) -> ReplicaSet | None:
        """The set of `epoch`, when it takes over above this block. Raises ValueError for an unknown one."""

    def close(self) -> None:
        """Remove what the run left behind."""


class LightKit:
    """Light ledgers; `create` may make broken ones, to see the checkers catch them."""

    def __init__(
        self,
        seed: int,
        settings: SimulationSettings,
        replica_set: ReplicaSet,
        create: LightLedgerFactory | None = None,
    ) -> None:
        self.chain_id: bytes = sha256(f"simulated chain {seed}".encode()).digest()
        self.genesis = create_genesis_block(replica_set)
        self.rotates_keys = True
        self.losses = LOSSES
        self.clock_jumps_ms = (300, 1_500, 60_000, 3_600_000, 86_400_000)
        self._seed = seed
        self._settings = settings
        self._create = create or _create_light_ledger

    @property
    def genesis_root(self) -> bytes:
        return _create_light_ledger(Disk(self.genesis), self._settings).state_root

    def open(self, disk: Disk) -> SimulatedLedger:
        return self._create(disk, self._settings)

    def delay_header(self, header: bytes) -> bytes:
        known = decode_light_header(header)
        return encode(replace(known, time_ms=known.time_ms + 1))

    def spoil_header(self, header: bytes) -> bytes:
        return encode(replace(decode_light_header(header), state_root=bytes(32)))

    def create_transaction(self, number: int) -> SimulatedTransaction:
        # One in eight is big: what a narrow link carries it carries one after the other.
        filling = b" " * (8_000 if number % 8 == 7 else 0)
        body = f"transaction {self._seed} {number}".encode() + filling
        return SimulatedTransaction(compute_digest(body), body)

    def create_change(self, present: ReplicaSet, following: ReplicaSet, height: int) -> SimulatedTransaction:
        body = encode_change(following)
        return SimulatedTransaction(compute_digest(body), body)

    def find_change(self, block: StoredBlock, epoch: int) -> ReplicaSet | None:
        return find_change(block.bodies, epoch)

    def close(self) -> None:
        """Nothing is left behind."""


def _create_light_ledger(disk: Disk, settings: SimulationSettings) -> LightLedger:
    return LightLedger(disk, idle_block_interval_ms=settings.idle_block_interval_ms)

"""What a run looks like before its seed is known; what the seed draws lies within these bounds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from consensus.settings import ReplicaSettings
from simulation.cast import FaultyReplica
from simulation.profiles import Profile


class Signatures(Enum):
    """How replicas sign in a run."""

    STAND_IN = "stand-in"
    """A hash over key and message: fast, and as good as a signature among replicas that do not forge."""
    ED25519 = "ed25519"


class LedgerKind(Enum):
    """What executes the blocks of a run."""

    LIGHT = "light"
    """Transactions are bytes, the state is a hash chain over them."""
    CHAIN = "chain"
    """The daemon's own `ledger.Chain`, each node's in a folder of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """One run: a faulty time, then healing, then everything that was submitted must commit everywhere."""

    replica_count: int | None = None
    """None lets the seed draw it: mostly 4, else 1, 2, 3, 5 or 7."""
    faulty_ms: int = 3_000
    """How long faults are injected, in virtual time."""
    healing_ms_max: int = 30_000
    """After that long without faults everything must have committed on every replica that is not faulty."""
    transactions: int = 24
    """Submitted by clients over the faulty time."""
    late_transactions: int = 3
    """Submitted one after the other after healing: the network must not only finish old work but take new."""
    blocks_min: int = 0
    """After those, further ones until the chain is this high."""
    byzantine: bool = True
    """Whether the seed may turn up to f replicas Byzantine."""
    parts: tuple[FaultyReplica, ...] | None = None
    """The first so many replicas are faulty in these ways; None lets the seed draw who is and how."""
    byzantine_count: int | None = None
    """Exactly so many are Byzantine, and equivocate; more than f are for seeing agreement break."""
    faults: bool = True
    """Whether there are faults at all; without, network and nodes are perfect."""
    fault_kinds: tuple[str, ...] | None = None
    """Of `faults.KINDS`, the kinds that happen; None lets the seed draw them."""
    profile: Profile | None = None
    """How far apart the replicas are; None lets the seed draw it from `profiles.PROFILES`."""
    signatures: Signatures = Signatures.STAND_IN
    ledger: LedgerKind = LedgerKind.LIGHT
    blocks_per_primary: int | None = None
    """None lets the seed draw it: 1, 2, 5 or 100."""
    tick_ms: int = 40
    """How often a replica is told the time."""
    view_timeout_ms: int = 400
    view_timeout_ms_max: int = 1_600
    idle_block_interval_ms: int = 1_000
    transcript_lines: int = 120
    """How many of the last steps a failing run shows."""

    def compute_replica_settings(self, blocks_per_primary: int) -> ReplicaSettings:
        """A patience that fits the virtual network, about five times shorter than the daemon's."""
        return ReplicaSettings(
            blocks_per_primary=blocks_per_primary,
            view_timeout_ms=self.view_timeout_ms,
            view_timeout_ms_max=self.view_timeout_ms_max,
            idle_block_interval_ms=self.idle_block_interval_ms,
            build_retry_ms=50,
            status_interval_ms=200,
            notice_interval_ms=25,
            sync_retry_ms=200,
            rejoin_timeout_ms=3_000,
            clock_tolerance_ms=1_000,
        )

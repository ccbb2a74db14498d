"""What a run looks like before its seed is known; what the seed draws lies within these bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

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
    """The daemon's own `ledger.Chain` and contracts, each node's in a folder of its own."""
    MIXED = "mixed"
    """The daemon's own for one seed in CHAIN_EVERY, the light one for the others."""


CHAIN_EVERY: Final = 100
"""The daemon's ledger costs about four times as much as the light one, and a folder for each node."""
CHAIN_REPLICAS_MAX: Final = 10
"""Each replica's takes about 40 MB of memory."""
CHANGES_EVERY: Final = 17
"""Unless something else is asked for, the replica set changes in one of so many seeds, on either ledger."""
CHANGES_USUAL: Final = 3


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
    """After those, further ones, as densely as in the faulty time, until the chain is this high."""
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
    only: tuple[str, ...] | None = None
    """Of all that the seed draws to go wrong, only these elements do (see `selection`); None: all of it."""
    profile: Profile | None = None
    """How far apart the replicas are; None lets the seed draw it from `profiles.PROFILES`."""
    changes: int | None = 0
    """How often the replica set changes, over the faulty time; None: CHANGES_USUAL times in one seed of
    CHANGES_EVERY."""
    signatures: Signatures = Signatures.STAND_IN
    ledger: LedgerKind = LedgerKind.LIGHT
    blocks_per_primary: int | None = None
    """None lets the seed draw it: 1, 2, 5 or 100."""
    tick_ms: int = 50
    """How often a replica is told the time."""
    view_timeout_ms: int = 400
    view_timeout_ms_max: int = 1_600
    status_interval_ms: int = 200
    idle_block_interval_ms: int = 1_000
    transcript_lines: int = 120
    """How many of the last steps a failing run shows."""

    @classmethod
    def create(
        cls,
        *,
        blocks: int | None = None,
        transactions: int | None = None,
        faulty_ms: int | None = None,
        late_transactions: int | None = None,
        **others: Any,
    ) -> SimulationSettings:
        """What a person asks for; None is what is usual.

        The run ends with so many `blocks` or a few more. Faults last as long as so many take without them,
        40 ms each; with them about a tenth are committed in that time, and the others after healing.
        """
        usual = cls(**others)
        if blocks is not None:
            usual = replace(usual, blocks_min=blocks, transactions=3 * blocks // 2, faulty_ms=40 * blocks)
        return replace(
            usual,
            transactions=transactions or usual.transactions,
            faulty_ms=faulty_ms or usual.faulty_ms,
            late_transactions=usual.late_transactions if late_transactions is None else late_transactions,
        )

    def choose(self, seed: int) -> SimulationSettings:
        """The settings of one seed of a series: which ledger it has and whether its replica set changes."""
        ledger, changes = self.ledger, self.changes
        if ledger is LedgerKind.MIXED:
            is_small = self.replica_count is None or self.replica_count <= CHAIN_REPLICAS_MAX
            is_chain = is_small and seed % CHAIN_EVERY == CHAIN_EVERY - 1
            ledger = LedgerKind.CHAIN if is_chain else LedgerKind.LIGHT
        if changes is None:
            changes = CHANGES_USUAL if seed % CHANGES_EVERY == CHANGES_EVERY - 1 else 0
        return replace(self, ledger=ledger, changes=changes)

    def compute_replica_settings(self, blocks_per_primary: int) -> ReplicaSettings:
        """A patience that fits the virtual network, about five times shorter than the daemon's."""
        return ReplicaSettings(
            blocks_per_primary=blocks_per_primary,
            view_timeout_ms=self.view_timeout_ms,
            view_timeout_ms_max=self.view_timeout_ms_max,
            idle_block_interval_ms=self.idle_block_interval_ms,
            build_retry_ms=50,
            status_interval_ms=self.status_interval_ms,
            notice_interval_ms=50,
            sync_retry_ms=200,
            rejoin_timeout_ms=3_000,
            # A replica knows the time as of its last tick only.
            clock_tolerance_ms=max(1_000, 2 * self.tick_ms),
        )

"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken invariant; a run stops at its first."""

    seed: int
    invariant: str
    """One of `checkers.INVARIANTS`."""
    text: str
    time_ms: int
    """Virtual time since the run began."""
    transcript: tuple[str, ...]
    """The last steps before it, oldest first."""

    def format(self) -> str:
        """For people: what was broken, and how it came to it."""
        lines = [
            *self.transcript,
            f"seed {self.seed}: {self.invariant} does not hold at {self.time_ms} ms: {self.text}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One seed's run."""

    seed: int
    violations: tuple[Violation, ...]
    trace_digest: str | None
    """SHA-256 over every event and effect; the same for every run of the seed. None where not asked for."""
    ledger: str
    """Which ledger executed the blocks, a value of `settings.LedgerKind`."""
    replica_count: int
    blocks: int
    """The height that was agreed on."""
    transactions: int
    views: int
    """The highest view in which a block was committed."""
    virtual_ms: int
    milliseconds: float
    """What the run took of one core."""
    faults: Mapping[str, int]
    """Injected faults by kind."""
    coverage: Mapping[str, int]
    """How often each branch of the protocol was gone through; see `coverage.BRANCHES`."""
    elements: tuple[str, ...]
    """All that went wrong, by names that `SimulationSettings.only` takes."""

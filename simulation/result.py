"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        """For people: what was broken, how it came to it, how to see it again."""
        lines = [
            *self.transcript,
            f"seed {self.seed}: {self.invariant} does not hold at {self.time_ms} ms: {self.text}",
            f"replay: chartchain simulate --seed {self.seed}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One seed's run."""

    seed: int
    violations: tuple[Violation, ...]
    trace_digest: str
    """SHA-256 over every event and effect; the same for every run of the seed."""
    replica_count: int
    blocks: int
    """The height that was agreed on."""
    transactions: int
    views: int
    """The highest view in which a block was committed."""
    virtual_ms: int
    milliseconds: float
    """What the run took in real time."""
    faults: Mapping[str, int]
    """Injected faults by kind."""


def compute_summary(results: Sequence[RunResult]) -> dict[str, object]:
    """Many runs for programs; `trace_digest` only of a single one."""
    faults: dict[str, int] = {}
    for result in results:
        for kind, count in result.faults.items():
            faults[kind] = faults.get(kind, 0) + count
    summary: dict[str, object] = {
        "seeds": len(results),
        "violations": [
            {"seed": violation.seed, "invariant": violation.invariant, "text": violation.text}
            for result in results
            for violation in result.violations
        ],
        "milliseconds_per_seed": round(
            sum(result.milliseconds for result in results) / max(1, len(results)), 2
        ),
        "blocks": sum(result.blocks for result in results),
        "transactions": sum(result.transactions for result in results),
        "faults": dict(sorted(faults.items())),
    }
    if len(results) == 1:
        summary["trace_digest"] = results[0].trace_digest
    return summary

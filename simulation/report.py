"""What many runs came to together: it grows by one run at a time, and hardly with their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from simulation.coverage import BRANCHES
from simulation.result import RunResult
from simulation.settings import LedgerKind

VIOLATIONS_MAX: Final = 1_000
"""Further ones are counted only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedViolation:
    """A broken invariant without its transcript: its seed shows that again."""

    seed: int
    invariant: str
    text: str


@dataclass(slots=True)
class LedgerTime:
    """The runs with one kind of ledger."""

    seeds: int = 0
    milliseconds: float = 0.0

    @property
    def milliseconds_per_seed(self) -> float:
        return round(self.milliseconds / max(1, self.seeds), 2)


@dataclass(slots=True)
class Report:
    """The sums over all runs so far."""

    seeds: int = 0
    violations: list[ReportedViolation] = field(default_factory=list)
    violation_count: int = 0
    milliseconds: float = 0.0
    """Of one core."""
    blocks: int = 0
    transactions: int = 0
    virtual_ms: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    """Injected faults by kind."""
    ledgers: dict[str, LedgerTime] = field(default_factory=dict)
    coverage: dict[str, int] = field(default_factory=dict)
    """How often each branch of the protocol was gone through."""
    code: dict[str, int] = field(default_factory=dict)
    """How many seeds were run by which code, by the digest of its source."""
    last_trace_digest: str | None = None

    def add(self, result: RunResult, code: str) -> None:
        """Count one more run, by the code of this digest."""
        self.seeds += 1
        _add_counts(self.code, {code: 1})
        self.violation_count += len(result.violations)
        for found in result.violations:
            if len(self.violations) < VIOLATIONS_MAX:
                self.violations.append(
                    ReportedViolation(seed=found.seed, invariant=found.invariant, text=found.text)
                )
        self.milliseconds += result.milliseconds
        self.blocks += result.blocks
        self.transactions += result.transactions
        self.virtual_ms += result.virtual_ms
        _add_counts(self.faults, result.faults)
        _add_counts(self.coverage, result.coverage)
        ledger = self.ledgers.setdefault(result.ledger, LedgerTime())
        ledger.seeds += 1
        ledger.milliseconds += result.milliseconds
        self.last_trace_digest = result.trace_digest

    @property
    def milliseconds_per_seed(self) -> float:
        """With the light ledger, where any seed had it: the others are too few for the mean to mean much."""
        total = LedgerTime(self.seeds, self.milliseconds)
        return self.ledgers.get(LedgerKind.LIGHT.value, total).milliseconds_per_seed

    @property
    def never_reached(self) -> tuple[str, ...]:
        """The branches that no run went through."""
        return tuple(sorted(BRANCHES - self.coverage.keys()))

    def summarize(self) -> dict[str, object]:
        """For programs; `trace_digest` only of a single run."""
        summary: dict[str, object] = {
            "seeds": self.seeds,
            "violations": [
                {"seed": found.seed, "invariant": found.invariant, "text": found.text}
                for found in self.violations
            ],
            "violation_count": self.violation_count,
            "milliseconds_per_seed": self.milliseconds_per_seed,
            "ledgers": {
                kind: {"seeds": time.seeds, "milliseconds_per_seed": time.milliseconds_per_seed}
                for kind, time in sorted(self.ledgers.items())
            },
            "blocks": self.blocks,
            "transactions": self.transactions,
            "code": dict(sorted(self.code.items())),
            "faults": dict(sorted(self.faults.items())),
            "coverage": {
                "branches": dict(sorted(self.coverage.items())),
                "never_reached": list(self.never_reached),
            },
        }
        if self.seeds == 1 and self.last_trace_digest is not None:
            summary["trace_digest"] = self.last_trace_digest
        return summary

    def to_plain(self) -> dict[str, Any]:
        """All of it, to be stored as JSON and read again by `from_plain`."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_plain(cls, plain: object) -> Report:
        """Raises msgspec.ValidationError when it is no report."""
        return msgspec.convert(plain, cls)


def _add_counts(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count

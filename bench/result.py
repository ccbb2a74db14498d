"""The figures of one run, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

CORES_WANTED_SHARE: Final = 0.95
"""Below this share of the machine's cores a saturating run was slowed by something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds from the sending of a batch to the receipt of its last transaction."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def from_samples(cls, samples_ms: list[float]) -> Latency:
        """Raises ValueError for no samples."""
        if not samples_ms:
            raise ValueError("no latency was measured: the run committed nothing")
        ordered = sorted(samples_ms)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

        return cls(p50=at(0.50), p95=at(0.95), p99=at(0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What `bench run` measured. Rates per second, times as the names say, memory in bytes."""

    nodes: int
    cores: int
    transactions_committed: int
    """As the load generator counts: whole batches whose last transaction it saw committed."""
    history_growth: int
    """By how many receipts the ledger grew meanwhile; the same number, or something was lost or doubled."""
    seconds: float
    committed_per_second: float
    verification_us: float
    """One Ed25519 verification while every core verifies, before and after the load; their mean."""
    ceiling_per_second: float
    """cores ÷ (nodes × verification): what verifying every signature at every node leaves at most."""
    ceiling_ratio: float
    latency_ms: Latency
    """Under full load."""
    lone_latency_ms: float
    """Median of single transactions on an otherwise idle network."""
    rss_bytes_max: int
    """The largest node after the load."""
    state_roots_equal: bool
    cores_used: float
    """Of daemons and load generator together, while the load ran."""
    client_cores_used: float
    heights: tuple[int, ...]

    @property
    def warning(self) -> str | None:
        """Why the figures may be wrong, or None."""
        if self.history_growth != self.transactions_committed:
            return (
                f"{self.transactions_committed} transactions were counted as committed, the ledger grew by "
                f"{self.history_growth}: do not use these figures, and report it"
            )
        wanted = CORES_WANTED_SHARE * self.cores
        if self.cores_used < wanted:
            return (
                f"this run had {self.cores_used:.2f} of {self.cores} cores, less than {wanted:.2f}: "
                "the machine was busy with something else or the load did not saturate it"
            )
        return None

    def to_json(self) -> dict[str, object]:
        """All figures, and the warning if there is one."""
        return {**asdict(self), "warning": self.warning}

"""What a run used of the machine, read from Linux' /proc; other systems give what they have.

Figures are about named processes, so a busy machine shows up as cores we did not get, not as a slow ledger.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Final

from crypto import tags
from crypto.signatures import SigningKey, verify_signature

_PROC: Final = Path("/proc")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
VERIFICATION_SECONDS: Final = 1.0
VERIFICATIONS_PER_ROUND: Final = 500
START_DELAY_SECONDS: Final = 1.0
"""Time for the measuring processes to start before they measure together."""


def measure_verification_us(cores: int) -> float:
    """Microseconds of processor time for one Ed25519 verification while every core verifies.

    One process a core verifies for VERIFICATION_SECONDS, all at the same time: cores that share caches and
    clock are slower together than alone, and together is how nodes run. The mean over the processes of each
    one's median round.
    """
    begin = time.time() + START_DELAY_SECONDS
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        return mean(pool.map(_measure_verification_us, [begin] * cores))


def _measure_verification_us(begin: float) -> float:
    """From `begin` (seconds since 1970) on, as the ledger verifies a transaction of the load's size."""
    key = SigningKey(bytes(range(32)))
    # Distinct messages: a processor learns the branches of one signature that it verifies again and again.
    messages = [number.to_bytes(4, "big") + bytes(226) for number in range(VERIFICATIONS_PER_ROUND)]
    signed = [(message, key.sign(tags.TRANSACTION, message)) for message in messages]
    time.sleep(max(0.0, begin - time.time()))
    rounds: list[float] = []
    end = time.monotonic() + VERIFICATION_SECONDS
    while not rounds or time.monotonic() < end:
        start = time.process_time()
        for message, signature in signed:
            verify_signature(key.public_key, tags.TRANSACTION, message, signature)
        rounds.append((time.process_time() - start) / VERIFICATIONS_PER_ROUND * 1e6)
    return median(rounds)


def count_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_cpu_seconds(process_ids: Iterable[int]) -> float:
    """User and system time of these processes since their start; ended ones count nothing."""
    total = 0
    for process_id in process_ids:
        try:
            # The command name in parentheses may hold spaces; the fields behind it are fixed.
            fields = (_PROC / str(process_id) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_SECOND


def get_resident_bytes(process_id: int) -> int:
    """Resident memory of a process now; 0 when it has ended."""
    try:
        status = (_PROC / str(process_id) / "status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True)
class CpuMark:
    """A point in time from which cores used are counted."""

    wall_seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls, process_ids: Iterable[int]) -> CpuMark:
        return cls(time.monotonic(), get_cpu_seconds(process_ids))

    def compute_cores_since(self, earlier: CpuMark) -> float:
        """Mean number of cores that the processes kept busy between the marks."""
        wall = self.wall_seconds - earlier.wall_seconds
        return (self.cpu_seconds - earlier.cpu_seconds) / wall if wall > 0 else 0.0

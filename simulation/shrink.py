"""The smallest run that still breaks an invariant: what is left when all else is taken from a failing seed.

Greedy and deterministic: a reduction is kept when the same invariant is still broken, and reductions are
tried until none helps or so many runs were made. What is left may break it in another way than the whole
did; it is a defect all the same, and easier to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from simulation.result import RunResult, Violation
from simulation.run import run_seed
from simulation.settings import SimulationSettings

RUNS_MAX: Final = 400
FAULTY_MS_MIN: Final = 50

Run = Callable[[int, SimulationSettings], RunResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallestRun:
    """What shrinking came to."""

    settings: SimulationSettings
    """With which the seed breaks the invariant still."""
    result: RunResult
    runs: int
    """How many were made to find it."""

    @property
    def violation(self) -> Violation:
        return self.result.violations[0]


def shrink(
    result: RunResult,
    settings: SimulationSettings,
    *,
    run: Run = run_seed,
    runs_max: int = RUNS_MAX,
    on_run: Callable[[], None] = lambda: None,
) -> SmallestRun:
    """Less of everything than in `result`, which broke an invariant with these `settings`.

    `on_run` hears of each run.
    """
    invariant = result.violations[0].invariant
    chosen = settings.choose(result.seed)
    settings = replace(chosen, replica_count=result.replica_count, only=result.elements)
    runs = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _iterate_reductions(settings):
            if runs == runs_max:
                break
            runs += 1
            found = run(result.seed, candidate)
            on_run()
            if found.violations and found.violations[0].invariant == invariant:
                settings, result, is_smaller = replace(candidate, only=found.elements), found, True
                break
    return SmallestRun(settings=settings, result=result, runs=runs)


def _iterate_reductions(settings: SimulationSettings) -> Iterator[SimulationSettings]:
    """The greatest reductions first."""
    elements, count = settings.only or (), settings.replica_count or 1
    size = len(elements)
    while size:
        for start in range(0, len(elements), size):
            yield replace(settings, only=(*elements[:start], *elements[start + size :]))
        size //= 2
    for fewer in range(1, count):
        yield replace(settings, replica_count=fewer)
    for changes in range(settings.changes or 0):
        yield replace(settings, changes=changes)
    if settings.blocks_min:
        yield replace(settings, blocks_min=0)
    for transactions in dict.fromkeys((1, settings.transactions // 2, settings.transactions - 1)):
        if 0 < transactions < settings.transactions:
            yield replace(settings, transactions=transactions)
    for late in range(settings.late_transactions):
        yield replace(settings, late_transactions=late)
    if settings.faulty_ms // 2 >= FAULTY_MS_MIN:
        yield replace(settings, faulty_ms=settings.faulty_ms // 2)

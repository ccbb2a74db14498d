"""Run seeds: one, or many over several processes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from consensus.replica import Replica
from simulation.checkers import InvariantBroken
from simulation.ledger_kit import LightLedgerFactory
from simulation.result import RunResult, Violation
from simulation.settings import SimulationSettings
from simulation.world import ReplicaFactory, World


def run_seed(
    seed: int,
    settings: SimulationSettings | None = None,
    *,
    create_replica: ReplicaFactory = Replica,
    create_ledger: LightLedgerFactory | None = None,
) -> RunResult:
    """One run; what went wrong in it is in the result. The factories are for tests of the checkers."""
    began = time.perf_counter()
    world = World(
        seed, settings or SimulationSettings(), create_replica=create_replica, create_ledger=create_ledger
    )
    violations: tuple[Violation, ...] = ()
    try:
        world.run()
    except InvariantBroken as broken:
        violations = (
            Violation(
                seed=seed,
                invariant=broken.invariant,
                text=broken.text,
                time_ms=world.schedule.now_us // 1_000,
                transcript=tuple(world.trace.format_tail()),
            ),
        )
    finally:
        world.close()
    return RunResult(
        seed=seed,
        violations=violations,
        trace_digest=world.trace.digest,
        replica_count=len(world.replica_set.members),
        blocks=len(world.chain.blocks) - 1,
        transactions=len(world.clients.hashes),
        views=world.views,
        virtual_ms=world.schedule.now_us // 1_000,
        milliseconds=(time.perf_counter() - began) * 1_000,
        faults=world.count_faults(),
    )


def run_seeds(
    seeds: Sequence[int],
    settings: SimulationSettings | None = None,
    *,
    jobs: int = 1,
    on_result: Callable[[RunResult], None] = lambda result: None,
) -> list[RunResult]:
    """Many runs in the order of `seeds`, in `jobs` processes; `on_result` hears of each as it ends."""
    results = []
    if jobs == 1:
        for seed in seeds:
            results.append(run_seed(seed, settings))
            on_result(results[-1])
            gc.collect(1)  # A world is full of cycles; it must not pile up over thousands of seeds.
        return results
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for result in pool.map(partial(run_seed, settings=settings), seeds, chunksize=4):
            results.append(result)
            on_result(result)
    return results

"""Run seeds: one, or many over several processes."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread

from consensus.replica import Replica
from simulation.checkers import InvariantBroken
from simulation.ledger_kit import LightLedgerFactory
from simulation.node_factory import ReplicaFactory
from simulation.result import RunResult, Violation
from simulation.settings import SimulationSettings
from simulation.world import World


def run_seed(
    seed: int,
    settings: SimulationSettings | None = None,
    *,
    with_digest: bool = True,
    create_replica: ReplicaFactory = Replica,
    create_ledger: LightLedgerFactory | None = None,
) -> RunResult:
    """One run; what went wrong in it is in the result. The factories are for tests of the checkers."""
    began = time.process_time()
    chosen = (settings or SimulationSettings()).choose(seed)
    world = World(
        seed, chosen, with_digest=with_digest, create_replica=create_replica, create_ledger=create_ledger
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
        ledger=chosen.ledger.value,
        replica_count=len(world.replica_set.members),
        blocks=world.chain.height,
        transactions=len(world.clients.hashes),
        views=world.views,
        virtual_ms=world.schedule.now_us // 1_000,
        milliseconds=(time.process_time() - began) * 1_000,
        faults=world.count_faults(),
        coverage=world.coverage.count(),
        elements=world.selection.kept,
    )


def run_seeds(
    seeds: Sequence[int],
    settings: SimulationSettings | None = None,
    *,
    jobs: int = 1,
    with_digests: bool = False,
) -> Iterator[RunResult]:
    """Many runs in the order of `seeds`, in `jobs` processes. Whoever stops iterating stops the runs.

    Digests of their traces cost a twentieth more.
    """
    run = partial(_run_and_collect, settings=settings, with_digest=with_digests)
    if jobs == 1:
        _spare_collector()
        try:
            for seed in seeds:
                yield run(seed)
        finally:
            gc.unfreeze()
            gc.enable()
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_worker)
    try:
        yield from pool.map(run, seeds, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _spare_collector() -> None:
    """A world is one heap of cycles that dies as a whole: nothing else need be looked at, and not before."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _run_and_collect(seed: int, *, settings: SimulationSettings | None, with_digest: bool) -> RunResult:
    result = run_seed(seed, settings, with_digest=with_digest)
    gc.collect()
    return result


def _begin_worker() -> None:
    """Whoever asked for the runs ends them, and no worker outlives a parent that was killed."""
    _spare_collector()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()

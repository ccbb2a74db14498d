"""`chartchain simulate`: the consensus core under virtual time, one seed or many."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer

from cli.json_target import JsonFileOption, JsonTarget
from cli.output import console, error_console, fail, progress_bar
from simulation.coverage import BRANCHES
from simulation.progress import Series, WrongProgress, compute_code_digest, load_report, save_report
from simulation.replay import NOTHING, format_replay, parse_only
from simulation.report import Report
from simulation.run import run_seed, run_seeds
from simulation.settings import CHANGES_EVERY, CHANGES_USUAL, LedgerKind, Signatures, SimulationSettings
from simulation.shrink import RUNS_MAX, shrink

SAVE_EVERY_S: Final = 2.0
TELL_EVERY_S: Final = 60.0
"""How often a run in the background says how far it is."""


SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Replay this seed, and print its trace digest.")
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, max=10_000_000, help="How many seeds to run.")]
FirstSeedOption = Annotated[int, typer.Option("--first-seed", min=0, help="The first of them.")]
JobsOption = Annotated[
    int, typer.Option("--jobs", min=1, max=256, help="Processes that run seeds at the same time.")
]
ReplicasOption = Annotated[
    int | None,
    typer.Option("--replicas", min=1, max=100, help="Replicas; drawn from the seed unless given."),
]
BlocksOption = Annotated[
    int | None,
    typer.Option("--blocks", min=1, max=10_000, help="Go on until the chain has so many blocks."),
]
TransactionsOption = Annotated[
    int | None, typer.Option("--transactions", min=1, help="Submitted while there are faults.")
]
LateTransactionsOption = Annotated[
    int | None, typer.Option("--late-transactions", min=0, help="Submitted one by one after healing.")
]
FaultyOption = Annotated[
    int | None, typer.Option("--faulty-ms", min=1, help="How long there are faults, in virtual time.")
]
ChangesOption = Annotated[
    int | None,
    typer.Option(
        "--changes",
        min=0,
        max=1_000,
        help=f"Changes of the replica set; unless given, {CHANGES_USUAL} in one seed of {CHANGES_EVERY}.",
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option("--only", help=f"Of what the seed draws, only this goes wrong; or {NOTHING}."),
]
LedgerOption = Annotated[
    LedgerKind, typer.Option("--ledger", help="What executes blocks; mixed: every hundredth seed chain.")
]
RealSignaturesOption = Annotated[
    bool, typer.Option("--real-signatures", help="Sign with Ed25519 instead of the fast stand-in.")
]
ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", help="Keep progress in this file, and go on from what it says."),
]
ShrinkOption = Annotated[
    bool, typer.Option("--shrink", help="Look for the smallest run in which the first failure remains.")
]


def simulate(
    seed: SeedOption = None,
    seeds: SeedsOption = 200,
    first_seed: FirstSeedOption = 0,
    jobs: JobsOption = max(1, os.cpu_count() or 1),
    replicas: ReplicasOption = None,
    blocks: BlocksOption = None,
    transactions: TransactionsOption = None,
    late_transactions: LateTransactionsOption = None,
    faulty_ms: FaultyOption = None,
    changes: ChangesOption = None,
    only: OnlyOption = None,
    ledger: LedgerOption = LedgerKind.MIXED,
    real_signatures: RealSignaturesOption = False,
    resume: ResumeOption = None,
    shrink_failure: ShrinkOption = False,
    json_file: JsonFileOption = None,
) -> None:
    """Run replicas on a faulty network and faulty disks, and check what must hold; a seed fixes all."""
    target = JsonTarget.open(json_file)
    settings = SimulationSettings.create(
        replica_count=replicas,
        blocks=blocks,
        transactions=transactions,
        late_transactions=late_transactions,
        faulty_ms=faulty_ms,
        changes=changes,
        only=parse_only(only),
        ledger=ledger,
        signatures=Signatures.ED25519 if real_signatures else Signatures.STAND_IN,
    )
    series = Series(first_seed=first_seed if seed is None else seed, settings=settings)
    report = _run(series, 1 if seed is not None else seeds, jobs=jobs, resume=resume)
    if not target.is_standard_output:
        _print(series, report)
    target.write(report.summarize())
    if report.violations:
        _fail(report, settings, shrinks=shrink_failure)


def _fail(report: Report, settings: SimulationSettings, *, shrinks: bool) -> NoReturn:
    first = report.violations[0]
    replay = _shrink(first.seed, settings) if shrinks else format_replay(first.seed, settings)
    fail(
        f"{report.violation_count} of {report.seeds} seeds broke an invariant, first seed {first.seed}: "
        f"{first.invariant}; replay it with {replay}"
    )


def _shrink(seed: int, settings: SimulationSettings) -> str:
    """Show the smallest run in which the seed breaks the same invariant; the command that replays it."""
    with progress_bar("shrinking", RUNS_MAX) as advance:
        smallest = shrink(run_seed(seed, settings), settings, on_run=advance)
    left = smallest.settings
    typer.echo(
        f"smallest of {smallest.runs} runs: {left.replica_count} replicas, {left.transactions} transactions "
        f"and {left.late_transactions} late ones, {left.faulty_ms} ms, "
        f"with {', '.join(left.only or ()) or 'nothing wrong'}\n{smallest.violation.format()}",
        err=True,
    )
    return format_replay(seed, left)


def _run(series: Series, count: int, *, jobs: int, resume: Path | None) -> Report:
    """All seeds that `resume` does not know yet; it is kept up to date, whatever ends the runs."""
    try:
        report = Report() if resume is None else load_report(resume, series)
    except WrongProgress as error:
        fail(str(error))
    seeds = range(series.first_seed + report.seeds, series.first_seed + count)
    began = saved = told = time.monotonic()
    done_before, code = report.seeds, compute_code_digest()
    with progress_bar("simulating", count) as advance, _interruptible():
        advance(report.seeds)
        try:
            jobs = max(1, min(jobs, len(seeds)))
            for result in run_seeds(seeds, series.settings, jobs=jobs, with_digests=count == 1):
                report.add(result, code)
                for violation in result.violations:
                    replay = format_replay(violation.seed, series.settings)
                    typer.echo(f"{violation.format()}\nreplay: {replay}", err=True)
                advance()
                now = time.monotonic()
                if resume is not None and now - saved >= SAVE_EVERY_S:
                    save_report(resume, series, report)
                    saved = now
                if not error_console.is_terminal and now - told >= TELL_EVERY_S:
                    pace = (now - began) / (report.seeds - done_before)
                    _tell(report, count, left_s=pace * (count - report.seeds))
                    told = now
        finally:
            if resume is not None:
                save_report(resume, series, report)
    return report


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the runs as Ctrl-C does, with what was done on file."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _tell(report: Report, count: int, *, left_s: float) -> None:
    typer.echo(
        f"simulating: {report.seeds:,} of {count:,} seeds, {report.violation_count} violations, "
        f"{report.milliseconds_per_seed} ms a seed, about {left_s / 60:.0f} minutes left",
        err=True,
    )


def _print(series: Series, report: Report) -> None:
    first, last = series.first_seed, series.first_seed + report.seeds - 1
    kinds = sorted(report.ledgers.items(), reverse=True)
    rows = [
        ("seeds", f"{first} to {last}" if report.seeds > 1 else str(first)),
        ("violations", str(report.violation_count)),
        (
            "agreed on",
            f"{report.blocks:,} blocks, {report.transactions:,} transactions "
            f"in {report.virtual_ms / 1_000:,.0f} virtual s",
        ),
        (
            "time",
            ", ".join(f"{time.milliseconds_per_seed} ms a seed ({kind} ledger)" for kind, time in kinds),
        ),
    ]
    if report.last_trace_digest is not None:
        rows.append(("trace digest", report.last_trace_digest))
    injected = (f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(report.faults.items()))
    rows.append(("injected", ", ".join(injected) or "nothing"))
    reached = len(BRANCHES) - len(report.never_reached)
    rows.append(("reached", f"{reached} of {len(BRANCHES)} branches of the protocol"))
    rows.append(("never reached", "; ".join(report.never_reached) or "none"))
    for name, text in rows:
        console.print(f"[dim]{name:<14}[/] {text}")
